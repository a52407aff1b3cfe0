//go:build faketime

package simcluster

import (
	_ "os/signal" // so that it is initialized before this package
	_ "unsafe"    // for go:linkname
)

// In virtual time the clock jumps when every goroutine is blocked. The loop that
// waits for signals is a goroutine parked in a system call, which counts as
// running: nothing would ever be idle. kube-scheduler starts it for its cache
// debugger. Without the loop, signals are not delivered; the parent process
// takes care of them.
//
//go:linkname watchSignalLoop os/signal.watchSignalLoop
var watchSignalLoop func()

func init() { watchSignalLoop = nil }
