package chaos

import (
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/fakeruntime"
)

// Script has the containers of lives do on the fake runtime what they are to. On a
// slow machine the runtime takes up to some seconds for each step, so that much is
// under way when an agent dies or a pod is deleted.
func Script(lives []*Life, slow bool) fakeruntime.Script {
	runs := map[string]map[string][]Run{}
	for _, l := range lives {
		runs[l.Pod.Name] = l.Runs
	}
	return func(p *v1.Pod, c *v1.Container, attempt uint32) fakeruntime.Behavior {
		all := runs[p.Name][c.Name]
		b := behavior(all[min(int(attempt), len(all)-1)])
		if slow {
			step := fakeruntime.Latency{Max: 3 * time.Second}
			b.Sandbox, b.Create, b.Start = step, step, step
		}
		return b
	}
}

// never is longer than any life.
const never = 1000 * time.Hour

func behavior(r Run) fakeruntime.Behavior {
	b := fakeruntime.DefaultBehavior()
	switch r.Does {
	case Exit:
		b.Exits, b.ExitAfter, b.ExitCode = true, fakeruntime.Latency{Min: r.After}, r.Code
		b.ReadyAfter, b.FailLivenessAfter = fakeruntime.Latency{Min: never}, 1
		b.StopExitCode = 2
	case Deaf:
		b.ReadyAfter, b.FailLivenessAfter = fakeruntime.Latency{Min: never}, 1
	case Stubborn:
		b.IgnoreSIGTERM = true
	case OOM:
		b.OOMAfter = time.Second
		b.ReadyAfter, b.FailLivenessAfter = fakeruntime.Latency{Min: never}, 1
	case Broken:
		b.StartError = "no such file or directory"
	}
	return b
}
