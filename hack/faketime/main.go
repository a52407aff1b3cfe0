// Command faketime writes an overlay for go build -overlay: Go's runtime with the
// few changes that hours of virtual time need, and each with its reason below.
// Without the tag faketime the changed runtime does what it did before.
//
// It changes what it finds in GOROOT and fails when that has become different, so
// a new Go release either works or says what to look at.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// change replaces a text that stands exactly once in a file of package runtime;
// all of them if every is set.
type change struct {
	file, old, new string
	every          bool
}

var changes = []change{
	// The clock jumps without a walk over all goroutines: the walk only proves
	// what the scheduler's counts have said, and took half of all time.
	{file: "proc.go", old: "\tgrunning := 0\n\tforEachG(", new: `	if faketime != 0 {
		if when := timeSleepUntil(); when < maxWhen {
			faketime = when
			pp, _ := pidleget(faketime)
			mp := mget()
			if pp == nil || mp == nil {
				unlock(&sched.lock)
				throw("checkdead: no p or m for timer")
			}
			sched.nmspinning.Add(1)
			mp.spinning = true
			mp.nextp.set(pp)
			notewakeup(&mp.park)
			return
		}
	}

	grunning := 0
	forEachG(`},

	// A goroutine that was made ready does not inherit the time slice of the one
	// that did it: slices never end while the clock stands, and two goroutines
	// that wake one another would starve all others for ever.
	{file: "proc.go", old: "\tif !haveSysmon && next {\n", new: "\tif (!haveSysmon || faketime != 0) && next {\n"},

	// The network is looked at every 61 turns also while there is other work:
	// sysmon, whose task that is, goes by the clock that stands. It would also do
	// it at times that differ from run to run.
	{file: "proc.go", old: "\t// Wake up the finalizer G.\n", new: `	if faketime != 0 && pp.schedtick%61 == 0 && netpollinited() && netpollAnyWaiters() {
		list, delta := netpoll(0)
		injectglist(&list)
		netpollAdjustWaiters(delta)
	}

	// Wake up the finalizer G.
`},
	{file: "proc.go", old: "if netpollinited() && lastpoll != 0 && lastpoll+10*1000*1000 < now {",
		new: "if faketime == 0 && netpollinited() && lastpoll != 0 && lastpoll+10*1000*1000 < now {"},

	// sysmon takes a processor away only from long system calls, not from those
	// that happen to last 20 µs this time.
	{file: "proc.go", old: "\t\tusleep(delay)\n\n\t\t// sysmon should not", new: `		if faketime != 0 {
			delay = 10 * 1000
		}
		usleep(delay)

		// sysmon should not`},

	// The runtime's own waits end by the wall clock; some try again then, such as
	// the one for all goroutines to stop.
	{file: "lock_futex.go", old: "nanotime()", new: "nanotime1()", every: true},

	// With one processor the order of maps and selects is the same in each run:
	// a fixed seed, and one state whichever thread a goroutine is on.
	{file: "rand.go", old: "\tif len(startupRand) >= 16 &&\n", new: `	if faketime != 0 {
		startupRand = nil
		copy(seed[:], "the same order of maps and selects")
	} else if len(startupRand) >= 16 &&
`},
	{file: "rand.go", old: "\tmp := getg().m\n", new: "\tmp := randM()\n", every: true},
	{file: "rand.go", old: "func allZero(", new: `// fakeM holds the random state of all goroutines when they share one processor in
// virtual time.
var fakeM m

//go:nosplit
func randM() *m {
	gp := getg()
	if faketime != 0 && gomaxprocs == 1 && gp == gp.m.curg {
		return &fakeM
	}
	return gp.m
}

func allZero(`},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: faketime FOLDER; writes FOLDER/overlay.json")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "faketime:", err)
		os.Exit(1)
	}
}

// write writes the changed files and overlay.json into a folder.
func write(folder string) error {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("finding GOROOT: %w", err)
	}
	runtime := filepath.Join(strings.TrimSpace(string(out)), "src", "runtime")
	if folder, err = filepath.Abs(folder); err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	files, err := changed(func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(runtime, name)) })
	if err != nil {
		return err
	}
	replace := map[string]string{}
	for name, text := range files {
		to := filepath.Join(folder, name)
		replace[filepath.Join(runtime, name)] = to
		if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
			return err
		}
	}
	overlay, err := json.MarshalIndent(map[string]any{"Replace": replace}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "overlay.json"), overlay, 0o644)
}

// changed returns the changed files, or what could not be changed.
func changed(read func(name string) ([]byte, error)) (map[string]string, error) {
	files := map[string]string{}
	var errs []error
	for _, c := range changes {
		if _, ok := files[c.file]; !ok {
			data, err := read(c.file)
			if err != nil {
				return nil, err
			}
			files[c.file] = string(data)
		}
		n := strings.Count(files[c.file], c.old)
		if n == 0 || n > 1 && !c.every {
			errs = append(errs, fmt.Errorf("runtime/%s of this Go release has this %d times, not once:\n%s", c.file, n, c.old))
		}
		files[c.file] = strings.ReplaceAll(files[c.file], c.old, c.new)
	}
	return files, errors.Join(errs...)
}
