package playback

import (
	"slices"
	"testing"
)

const dump = `SIGQUIT: quit
PC=0x497301 m=0 sigcode=0

goroutine 0 gp=0x8973080 m=0 mp=0x89746a0 [idle]:
runtime.futex(0x89747f8, 0x80, 0x0, 0x0, 0x0, 0x0)
	/usr/local/go/src/runtime/sys_linux_amd64.s:569 +0x21 fp=0x7ffdd9b76fc0

goroutine 1 gp=0x1f3aeeca81e0 m=nil [select, 3 minutes]:
runtime.gopark(0x1f3aefd9d280?, 0x2?, 0x40?, 0x99?, 0x1f3aefd9d274?)
	/usr/local/go/src/runtime/proc.go:462 +0xce
main.wait()
	/x/main.go:7 +0x1

goroutine 202 gp=0x1f3aef5263c0 m=6 mp=0x1f3aef5c6808 [syscall]:
runtime.notetsleepg(0x1f3aef5b23e0, 0xffffffffffffffff)
	/usr/local/go/src/runtime/lock_futex.go:123 +0x29
os.(*File).Read(0x1, {0x2, 0x3, 0x4})
	/usr/local/go/src/os/file.go:120 +0x52
example.com/x.(*Reader).loop(...)
	/x/reader.go:3
created by example.com/x.New in goroutine 1
	/x/reader.go:9 +0x1a5

goroutine 9 [runnable, locked to thread]:
main.spin()
	/x/main.go:3 +0x1d
`

func TestHolders(t *testing.T) {
	for _, c := range []struct {
		name, dump string
		want       []string
	}{
		{"a dump", dump, []string{
			"goroutine 202 gp=0x1f3aef5263c0 m=6 mp=0x1f3aef5c6808 [syscall] in os.(*File).Read, started by example.com/x.New",
			"goroutine 9 [runnable, locked to thread] in main.spin"}},
		{"all blocked", "goroutine 1 [chan receive]:\nmain.main()\n\t/x.go:1\n", nil},
		{"no dump", "panic: no\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, h := range Holders(c.dump) {
				got = append(got, h.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q", got)
			}
		})
	}
}
