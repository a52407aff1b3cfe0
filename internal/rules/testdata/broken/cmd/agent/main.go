// Command agent knows the simulation.
package main

import (
	"nodelet/agent"
	"nodelet/simcluster"
)
