//go:build faketime

package main

// virtualBuild says that this is the build whose clock jumps: see virtual.go.
const virtualBuild = true
