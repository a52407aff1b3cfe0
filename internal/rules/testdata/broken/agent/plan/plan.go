// Package plan is impure.
package plan

import (
	"net/http"
	"os"
	clock "time"

	"nodelet/agent/worker"
)

var (
	// A renamed import and a function that is not called are found as well.
	now   = clock.Now
	sleep = clock.Sleep
)

func start() { go start() }
