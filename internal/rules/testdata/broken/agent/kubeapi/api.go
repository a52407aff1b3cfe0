// Package kubeapi knows too much.
package kubeapi

import (
	"nodelet/agent/nowhere"
	"nodelet/agent/plan"
)
