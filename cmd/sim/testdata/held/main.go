// Command held is a child in virtual time that holds its clock: for TestHeldClock.
package main

import (
	"fmt"
	"syscall"
	"unsafe"
)

//go:linkname faketime runtime.faketime
var faketime int64

func main() {
	fmt.Printf("{\"clock\":%d}\n", uintptr(unsafe.Pointer(&faketime)))
	var pipe [2]int
	if err := syscall.Pipe(pipe[:]); err != nil {
		panic(err)
	}
	done := make(chan struct{})
	go holdTheClock(pipe[0], done)
	<-done
}

// holdTheClock is parked in a system call, which no other goroutine may be.
func holdTheClock(fd int, done chan struct{}) {
	_, _ = syscall.Read(fd, make([]byte, 1))
	close(done)
}
