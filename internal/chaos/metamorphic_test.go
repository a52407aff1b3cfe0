package chaos

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"nodelet/agent/volume"
	"nodelet/fakeruntime"
	"nodelet/internal/dockertest"
)

// TestMain keeps what Kubernetes' libraries say of failing calls to themselves.
func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard())
	dockertest.Main(m)
}

var (
	firstSeed = flag.Uint64("first", 1, "the first seed to play")
	showLife  = flag.String("life", "", "the name of a life whose course is to be shown")
	seeds     = flag.Int("seeds", 0, "how many seeds to play; 0 for as many as the test has time for")
)

// The course of the metamorphic test. Faults go on until every pod that is
// deleted was deleted, and a little more; bound is the time after that within
// which everything must have come to its end.
const (
	spread    = 5 * time.Second
	faultsFor = 110 * time.Second
	bound     = 2 * time.Minute
	perSeed   = 8
)

// TestFaultsChangeNothing plays lives undisturbed, and again while the agent is
// killed and started at any moment, notifications and watches are late, repeated
// and out of order, and calls of the API server and of the runtime fail, take
// long, or are done but not answered. All the time nothing must happen that
// never may (guard.go, apitest's rules, fakeruntime's violations); and after
// faults have healed every pod must come to the end that it had undisturbed,
// within bound.
func TestFaultsChangeNothing(t *testing.T) {
	n := *seeds
	if n == 0 {
		n = 50
	}
	for seed := *firstSeed; seed < *firstSeed+uint64(n); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			lives := NewLives(seed, perSeed)
			want := playFake(t, seed, lives, false)
			got := playFake(t, seed, lives, true)
			for i, l := range lives {
				if a, b := want.stories[i].Final(l.Pod), got.stories[i].Final(l.Pod); a != b {
					t.Errorf("%s\n  undisturbed: %s\n  with faults: %s\n%s", l, a, b, got.world.Trace.Of(l.Pod.Name))
				}
			}
			if t.Failed() {
				t.Logf("to play it again: go test ./internal/chaos -run TestFaultsChangeNothing -first %d -seeds 1 [-life life-%d-N]", seed, seed)
			}
		})
	}
}

// played is a world after its end.
type played struct {
	world   *World
	stories []*Story
}

// playFake plays lives on the fake runtime.
func playFake(t *testing.T, seed uint64, lives []*Life, faults bool) (p played) {
	t.Helper()
	// A failure in the bubble fails the test, but does not end it.
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 3))
		runtime := fakeruntime.New(fakeruntime.Options{Rand: r, Script: Script(lives, faults)})
		w := NewWorld(runtime, runtime)
		w.Rand, w.Store, w.RootDir = r, volume.NewMemory(), "/nonexistent"
		w.Log = slog.New(slog.DiscardHandler)
		course := Course{Seed: seed, Spread: spread, Healed: faultsFor, Length: faultsFor + bound}
		if faults {
			w.Faults = NewFaults(seed, faultsFor)
			w.Server.SetLossy()
			course.Down = 15 * time.Second
			for range r.IntN(8) {
				course.Kills = append(course.Kills, time.Duration(r.Int64N(int64(faultsFor))))
			}
		}
		stories, err := Play(w, lives, course)
		if err != nil {
			t.Fatal(err)
		}
		for _, wrong := range append(w.Wrong(), runtime.Violations()...) {
			t.Errorf("with faults %v: %s", faults, wrong)
		}
		if *showLife != "" {
			t.Logf("with faults %v:\n%s", faults, w.Trace.Of(*showLife))
		}
		p = played{w, stories}
	})
	return p
}
