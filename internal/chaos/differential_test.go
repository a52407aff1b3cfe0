package chaos

import (
	"context"
	"flag"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/docker"
	"nodelet/agent/probe"
	"nodelet/agent/volume"
	"nodelet/fakeruntime"
	"nodelet/internal/dockertest"
)

var histories = flag.Int("histories", 16, "how many lives TestDockerDoesAsTheFake plays on Docker at once")

// TestDockerDoesAsTheFake plays the same lives through the agent on the fake runtime
// and on Docker, and compares what the API server is told: phases, reasons, how each
// incarnation ended, restart counts, conditions.
func TestDockerDoesAsTheFake(t *testing.T) {
	engine := dockertest.Shared(t)
	engine.Load(t, Image)
	engine.Load(t, OtherImage)
	engine.Load(t, pauseImage)
	t.Run("undisturbed", func(t *testing.T) { compare(t, engine, *firstSeed, nil) })
	t.Run("agent restarts", func(t *testing.T) {
		compare(t, engine, *firstSeed+1000, []time.Duration{4 * time.Second, 9 * time.Second, 15 * time.Second})
	})
}

const pauseImage = "chaos.test/pause:1"

// patience is how long a life on Docker may take to come to where it came on the
// fake runtime.
const patience = 90 * time.Second

// compare plays lives on both and compares their stories.
func compare(t *testing.T, engine *dockertest.Engine, seed uint64, kills []time.Duration) {
	lives := NewLives(seed, *histories)
	course := Course{Seed: seed, Spread: 5 * time.Second, Kills: kills, Healed: time.Hour}
	fake := followFake(t, lives, course)
	real := followDocker(t, engine, lives, course, fake)
	for i, l := range lives {
		if d := Difference(l.Pod, fake[i], real.stories[i], kills != nil); d != "" {
			t.Errorf("%s\n    %s\n  on Docker:\n%s", l, d, real.world.Trace.Of(l.Pod.Name))
		}
	}
	if t.Failed() {
		t.Logf("to play it again: go test ./internal/chaos -run '^%s$' -first %d -histories %d", t.Name(), *firstSeed, *histories)
	}
}

// followFake plays lives on the fake runtime. There a pod is at rest when its status
// has not changed for a while.
func followFake(t *testing.T, lives []*Life, course Course) (stories []*Story) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(course.Seed, 3))
		runtime := fakeruntime.New(fakeruntime.Options{Rand: r, Script: Script(lives, false)})
		w := NewWorld(runtime, runtime)
		w.Rand, w.Store, w.RootDir, w.Log = r, volume.NewMemory(), "/nonexistent", slog.New(slog.DiscardHandler)
		var err error
		stories, err = Follow(t.Context(), w, lives, course, func(ctx context.Context, _ int, p *v1.Pod) bool {
			for told := -1; told != len(w.Server.History(p.UID)); wait(ctx, time.Minute) {
				told = len(w.Server.History(p.UID))
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, wrong := range append(w.Wrong(), runtime.Violations()...) {
			t.Errorf("on the fake runtime: %s", wrong)
		}
	})
	return stories
}

// followDocker plays lives on Docker. There a pod is at rest when its status is the
// one in which it came to rest on the fake runtime.
func followDocker(t *testing.T, engine *dockertest.Engine, lives []*Life, course Course, fake []*Story) played {
	t.Helper()
	dir := t.TempDir()
	config := docker.DefaultConfig()
	config.Endpoint, config.PodInfraContainerImage = engine.Endpoint, pauseImage
	config.ContainerLogsDirectory = ""
	runtime, err := docker.New(config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runtime.Close() })
	w := NewWorld(runtime, probe.NewNetwork("test"))
	w.Rand, w.RootDir, w.Log = rand.New(rand.NewPCG(course.Seed, 3)), filepath.Join(dir, "kubelet"), slog.New(slog.DiscardHandler)
	w.Server.SetLossy()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stories, err := Follow(ctx, w, lives, course, func(ctx context.Context, i int, p *v1.Pod) bool {
		rest := fake[i].Rest
		if rest == "" {
			rest = fake[i].Last
		}
		return w.Server.Await(ctx, p.Namespace, p.Name, func(p *v1.Pod) bool {
			return p != nil && Unnoticed(Describe(&p.Status)) == Unnoticed(rest)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range w.Wrong() {
		t.Errorf("on Docker: %s", wrong)
	}
	return played{w, stories}
}
