// Package plan is impure.
package plan

import (
	"os"
	"time"

	"nodelet/agent/worker"
)

var now = time.Now()

func start() { go start() }
