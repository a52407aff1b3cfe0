package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// identities are the containers that run for a namespace's pods in the engine,
// by pod and container name.
func (c *cluster) identities(t testing.TB, namespace string) map[string]string {
	t.Helper()
	all, err := c.engine.Containers(context.Background(), "io.kubernetes.pod.namespace="+namespace)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, container := range all {
		key := container.Labels["io.kubernetes.pod.name"] + "/" + container.Labels["io.kubernetes.container.name"]
		if container.State != "running" {
			key += " " + container.State
		}
		if other, twice := ids[key]; twice {
			t.Errorf("%s is there twice: %s and %s", key, other, container.ID)
		}
		ids[key] = container.ID
	}
	return ids
}

func same(t *testing.T, what string, before, after map[string]string) {
	t.Helper()
	if !maps.Equal(before, after) {
		t.Errorf("%s: before\n%s\nafter\n%s", what, lines(before), lines(after))
	}
}

func lines(m map[string]string) string {
	var s []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		s = append(s, key+" "+m[key][:12])
	}
	return strings.Join(s, "\n")
}

func restarts(pods []v1.Pod) (n int32) {
	for i := range pods {
		for _, s := range pods[i].Status.ContainerStatuses {
			n += s.RestartCount
		}
	}
	return n
}

const threeWebs = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":3,
	"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"terminationGracePeriodSeconds":1,
	"volumes":[{"name":"v","emptyDir":{}}],
	"containers":[{"name":"web","image":"e2e.test/app:1","volumeMounts":[{"name":"v","mountPath":"/v"}],
		"readinessProbe":{"httpGet":{"path":"/","port":8080},"periodSeconds":1}},
		{"name":"other","image":"e2e.test/app:1","args":["print","hello"]}]}}}}`

// An agent that is killed and comes back finds its pods as they are.
func TestAgentRestart(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "restart")
	c.apply(t, ns, threeWebs)
	c.ready(t, ns, "app=web", 3)
	before := c.identities(t, ns)
	for range 3 {
		c.agent.kill()
		c.startAgent(t)
		c.settled(t)
	}
	same(t, "after three restarts", before, c.identities(t, ns))
	if n := restarts(c.ready(t, ns, "app=web", 3)); n != 0 {
		t.Errorf("%d restarts are counted", n)
	}
}

// settled waits until the agent has taken up what there is: a new pod runs.
func (c *cluster) settled(t *testing.T) {
	t.Helper()
	ns := c.namespace(t, "settled")
	c.apply(t, ns, fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"app":"p"}},
		"spec":{"terminationGracePeriodSeconds":0,"containers":[{"name":"c","image":%q}]}}`, testImage))
	c.ready(t, ns, "app=p", 1)
}

// An agent that is killed at any moment while pods start leaves nothing twice,
// loses nothing, and restarts nothing that runs.
func TestKillWhileStarting(t *testing.T) {
	c := start(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for round := range 8 {
		ns := c.namespace(t, "kill")
		c.apply(t, ns, threeWebs)
		time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
		ran := c.identities(t, ns)
		c.agent.kill()
		c.startAgent(t)
		pods := c.ready(t, ns, "app=web", 3)
		now := c.identities(t, ns)
		for key, id := range ran {
			if !strings.Contains(key, " ") && now[key] != id {
				t.Errorf("round %d: %s ran as %s when the agent was killed, now it is %s", round, key, id, now[key])
			}
		}
		if n := restarts(pods); n != 0 {
			t.Errorf("round %d: %d restarts are counted: %s", round, n, describe(pods))
		}
		if want := 3 * 3; len(now) != want {
			t.Errorf("round %d: %d containers, want %d:\n%s", round, len(now), want, lines(now))
		}
	}
}

// The engine's restart ends all containers; each comes back once, counted.
func TestEngineRestart(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "engine")
	c.apply(t, ns, threeWebs)
	before := c.ready(t, ns, "app=web", 3)
	if err := c.engine.Restart(); err != nil {
		t.Fatal(err)
	}
	c.eventually(t, "every container was restarted once", 2*time.Minute, func(ctx context.Context) error {
		pods, err := c.pods(ctx, ns, "app=web")
		if err != nil {
			return err
		}
		for i := range pods {
			for _, s := range pods[i].Status.ContainerStatuses {
				if s.RestartCount != 1 || s.State.Running == nil || !s.Ready {
					return fmt.Errorf("%s", describe(pods))
				}
			}
		}
		return nil
	})
	after := c.ready(t, ns, "app=web", 3)
	for i := range after {
		if after[i].UID != before[i].UID {
			t.Errorf("pod %s is another one", after[i].Name)
		}
	}
	running := 0
	for key := range c.identities(t, ns) {
		if !strings.Contains(key, " ") {
			running++
		}
	}
	if want := 3 * 3; running != want {
		t.Errorf("%d containers run, want %d", running, want)
	}
}

// Without an API server pods go on; what happened meanwhile is told when it is
// back. NODELET_E2E_OUTAGE is how long it is away (default 20s).
func TestWithoutAPIServer(t *testing.T) {
	c := start(t)
	outage := 20 * time.Second
	if s := os.Getenv("NODELET_E2E_OUTAGE"); s != "" {
		var err error
		if outage, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	ns := c.namespace(t, "outage")
	c.apply(t, ns, threeWebs)
	c.apply(t, ns, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"ends","labels":{"app":"ends"}},"spec":{"restartPolicy":"OnFailure",
		"containers":[{"name":"c","image":"e2e.test/app:1","args":["print","waiting"]}]}}`)
	c.ready(t, ns, "app=web", 3)
	c.ready(t, ns, "app=ends", 1)
	before := c.identities(t, ns)
	c.sim.kill()
	// One container fails meanwhile, and is restarted.
	if err := c.engine.Client.ContainerKill(t.Context(), before["ends/c"], "SIGKILL"); err != nil {
		t.Fatal(err)
	}
	delete(before, "ends/c")
	time.Sleep(outage)
	during := c.identities(t, ns)
	if during["ends/c"] == "" {
		t.Errorf("the container that failed was not restarted without an API server:\n%s", lines(during))
	}
	for _, key := range []string{"ends/c", "ends/c exited"} {
		delete(during, key)
	}
	same(t, "without an API server", before, during)
	if err := c.startControlPlane(); err != nil {
		t.Fatal(err)
	}
	c.eventually(t, "the restart is told", time.Minute, func(ctx context.Context) error {
		p, err := c.kube.CoreV1().Pods(ns).Get(ctx, "ends", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if s := container(p, "c"); s.RestartCount != 1 || s.State.Running == nil || s.LastTerminationState.Terminated == nil ||
			s.LastTerminationState.Terminated.ExitCode != 128+int32(syscall.SIGKILL) {
			return fmt.Errorf("%s", describe([]v1.Pod{*p}))
		}
		return nil
	})
	if n := restarts(c.ready(t, ns, "app=web", 3)); n != 0 {
		t.Errorf("%d restarts are counted", n)
	}
}
