// Command faketime writes an overlay for go build -overlay: Go's runtime with the
// few changes that hours of virtual time need, and each with its reason below.
// Without the tag faketime the changed runtime does what it did before.
//
// It changes what it finds in GOROOT and fails when that has become different, so
// a new Go release either works or says what to look at.
package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
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
	// sysmon, whose task that is, is not there or goes by the clock that stands.
	{file: "proc.go", old: "\t// Wake up the finalizer G.\n", new: `	if faketime != 0 && pp.schedtick%61 == 0 && netpollinited() && netpollAnyWaiters() {
		list, delta := netpoll(0)
		injectglist(&list)
		netpollAdjustWaiters(delta)
	}

	// Wake up the finalizer G.
`},
	// With one processor there is no sysmon: it takes the processor from long
	// system calls and ends time slices, both by the wall clock, so that runs would
	// differ. A system call keeps the processor until it returns.
	{file: "proc.go", old: "\tif haveSysmon {\n\t\tsystemstack(", new: `	alone := faketime != 0 && gomaxprocs == 1
	if alone {
		fakeTraceOpen()
	}
	if haveSysmon && !alone {
		systemstack(`},

	// The main goroutine is not bound to its thread while packages are initialized:
	// each switch to and from it is one of threads, and whether the one that gives
	// the processor away is already there for the next one, or a thread more is
	// made, differs from run to run.
	{file: "proc.go", old: "\tlockOSThread()\n\n\tif mp != &m0", new: `	if !alone {
		lockOSThread()
	}

	if mp != &m0`},
	{file: "proc.go", old: "\tneedUnlock := true\n", new: "\tneedUnlock := !alone\n"},
	{file: "proc.go", old: "\tneedUnlock = false\n\tunlockOSThread()\n", new: `	if needUnlock {
		needUnlock = false
		unlockOSThread()
	}
`},

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

	// No two looks at the clock are the same, as no two are where time passes: names of
	// events are made of it, and those of one burst would be one event. Only what is
	// told ticks; timers go by the clock.
	{file: "time_fake.go", old: "\treturn faketime / 1e9, int32(faketime % 1e9), faketime\n", new: `	fakeTold = max(fakeTold+1, faketime)
	return fakeTold / 1e9, int32(fakeTold % 1e9), faketime
`},
	{file: "time_fake.go", old: "//go:linkname time_now time.now\n", new: `// fakeTold is the time that was told last.
var fakeTold int64

//go:linkname time_now time.now
`},

	// Huge pages: garbage is hardly ever collected, so the heap is always new memory,
	// and a page fault for each 4 KiB of it would be a twentieth of all work.
	{file: "mem_linux.go", old: "\tsetVMAName(p, n, vmaName)\n\n\t// Disable huge pages", new: `	setVMAName(p, n, vmaName)
	if faketime != 0 {
		madvise(v, n, _MADV_HUGEPAGE)
	}

	// Disable huge pages`},

	// A record of what the process does, to find out where two runs part.
	{file: "proc.go", old: "\tgogo(&gp.sched)\n}\n\n// Finds a runnable goroutine", new: `	if fakeTrace.fd != 0 {
		fakeTraceExecute(gp)
	}
	gogo(&gp.sched)
}

// Finds a runnable goroutine`},
	{file: "malloc.go", old: "\tif sizeSpecializedMallocEnabled && heapBitsInSpan(size) {\n\t\tif typ == nil", new: `	if fakeTrace.fd != 0 {
		fakeTraceMalloc(size, sys.GetCallerPC(), getcallerfp())
	}
	if sizeSpecializedMallocEnabled && heapBitsInSpan(size) {
		if typ == nil`},
}

//go:embed trace.go.txt
var traceFile string

func main() {
	compare := flag.String("compare", "", "find the first step in which two traces of this program, written with NODELET_TRACE=FILE, differ")
	flag.Parse()
	var err error
	switch {
	case *compare != "" && flag.NArg() == 2:
		err = compareTraces(os.Stdout, *compare, flag.Arg(0), flag.Arg(1))
	case *compare == "" && flag.NArg() == 1:
		err = write(flag.Arg(0))
	default:
		fmt.Fprintln(os.Stderr, "usage: faketime FOLDER; writes FOLDER/overlay.json\n       faketime -compare PROGRAM A B")
		os.Exit(2)
	}
	if err != nil {
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
	files["faketrace.go"] = traceFile
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
