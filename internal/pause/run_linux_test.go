package pause

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pauseProcess is the program running as PID 1 of a namespace of its own.
type pauseProcess struct {
	*exec.Cmd
	t *testing.T
	// children is what keeps the children running; closing it ends them.
	children *os.File
}

// runPause starts the program by way of a shell that leaves it two children and
// an orphan.
func runPause(t *testing.T) *pauseProcess {
	t.Helper()
	const script = `cat <&3 & (exec cat <&3 & wait $!; exit 3) & (cat <&3 &); exec 3<&-; exec "$0"`
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := &pauseProcess{exec.Command("/bin/sh", "-c", script, writeProgram(t)), t, w}
	p.ExtraFiles = []*os.File{r}
	// The thread that starts it must stay, or it would be killed with that.
	runtime.LockOSThread()
	p.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		p.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
	}
	if err := p.Start(); errors.Is(err, syscall.EPERM) {
		t.Skip("this user may not make a PID namespace")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		if p.ProcessState == nil {
			p.Process.Kill()
			p.Wait()
		}
	})
	p.asleep()
	return p
}

func (p *pauseProcess) proc(name string) string {
	return fmt.Sprintf("/proc/%d/%s", p.Process.Pid, name)
}

func (p *pauseProcess) eventually(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("not in 10 s: %s", what)
		}
	}
}

// stat are the fields of /proc/<pid>/stat from the state, its third, on.
func (p *pauseProcess) stat() []string {
	p.t.Helper()
	data, err := os.ReadFile(p.proc("stat"))
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
}

// asleep waits until the program waits for a signal: before, the kernel drops
// them.
func (p *pauseProcess) asleep() {
	p.t.Helper()
	call := map[string]int{"amd64": amd64Sigtimedwait, "arm64": arm64Sigtimedwait}[runtime.GOARCH]
	p.eventually("pause waits for signals", func() bool {
		name, _ := os.ReadFile(p.proc("comm"))
		now, err := os.ReadFile(p.proc("syscall"))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			p.t.Skip("this kernel does not tell the system call: ", err)
		}
		return string(name) == "pause\n" && strings.HasPrefix(string(now), strconv.Itoa(call)+" ")
	})
}

func (p *pauseProcess) childCount() int {
	p.t.Helper()
	data, err := os.ReadFile(p.proc(fmt.Sprintf("task/%d/children", p.Process.Pid)))
	if err != nil {
		p.t.Skip("this kernel does not list children: ", err)
	}
	return len(strings.Fields(string(data)))
}

func (p *pauseProcess) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits for the end, 5 s at most, and checks its exit code.
func (p *pauseProcess) ends(code int) {
	p.t.Helper()
	kill := time.AfterFunc(5*time.Second, func() { p.Process.Kill() })
	defer kill.Stop()
	p.Wait()
	if got := p.ProcessState.ExitCode(); got != code {
		p.t.Errorf("pause ended with %v, want code %d", p.ProcessState, code)
	}
}

func TestReapsAndEnds(t *testing.T) {
	p := runPause(t)
	p.eventually("three children", func() bool { return p.childCount() == 3 })
	p.children.Close()
	p.eventually("all children were reaped", func() bool { return p.childCount() == 0 })
	p.asleep()
	p.signal(syscall.SIGTERM)
	p.ends(0)
}

func TestEndsOnInterruptWithChildren(t *testing.T) {
	p := runPause(t)
	p.signal(syscall.SIGINT)
	p.ends(0)
}

// TestGoesOn: neither other signals nor being stopped end it.
func TestGoesOn(t *testing.T) {
	p := runPause(t)
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGCHLD} {
		p.signal(s)
	}
	for range 3 {
		p.signal(syscall.SIGSTOP)
		p.eventually("pause stopped", func() bool { return p.stat()[0] == "T" })
		p.signal(syscall.SIGCONT)
		p.asleep()
	}
	p.children.Close()
	p.eventually("all children were reaped", func() bool { return p.childCount() == 0 })
	p.signal(syscall.SIGTERM)
	p.ends(0)
}

func TestCostsNothing(t *testing.T) {
	p := runPause(t)
	rollup, err := os.ReadFile(p.proc("smaps_rollup"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip(err)
	}
	if err != nil || !strings.Contains(string(rollup), "\nRss:") {
		t.Fatalf("memory of pause: %v: %q", err, rollup)
	}
	for line := range strings.Lines(string(rollup)) {
		if fields := strings.Fields(line); fields[0] == "Rss:" {
			t.Logf("%s kB resident", fields[1])
			if kB, err := strconv.Atoi(fields[1]); err != nil || kB > 4*os.Getpagesize()>>10 {
				t.Errorf("%s: more than four pages", line)
			}
		}
	}
	// User and system time, the 14th and 15th field, are ticks of 10 ms; most
	// of what there is yet was the shell's.
	before := p.stat()
	time.Sleep(200 * time.Millisecond)
	if after := p.stat(); after[11] != before[11] || after[12] != before[12] {
		t.Errorf("it used the processor: %v, then %v", before[11:13], after[11:13])
	}
}
