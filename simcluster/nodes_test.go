package simcluster

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent"
)

// impatient has nodes report every second, and the controllers give one up after
// 4 s.
func impatient(load APILoad) Options {
	return Options{
		APILoad: load,
		Agent: func(c *agent.Config) {
			c.NodeLeaseDuration = 4 * time.Second
			c.NodeStatusUpdateFrequency = time.Second
		},
		ControllerManagerArgs: []string{"--node-monitor-grace-period=4s", "--node-monitor-period=1s", "--node-eviction-rate=10"},
	}
}

func TestNodesLiveAndDie(t *testing.T) {
	for load, faults := range map[APILoad][]Fault{
		Faithful: {FaultNetwork, FaultPower},
		// The agents' watches are what differs; only a cut link tells.
		Shared: {FaultNetwork},
	} {
		t.Run(string(load), func(t *testing.T) {
			c := startCluster(t, impatient(load))
			group := NodeGroup{Name: "n", Count: 6, Labels: map[string]string{"pool": "a"},
				Capacity: v1.ResourceList{v1.ResourceCPU: resource.MustParse("3"), v1.ResourcePods: resource.MustParse("20")}}
			if err := c.AddNodes(t.Context(), group); err != nil {
				t.Fatal(err)
			}
			for _, name := range c.Nodes() {
				waitSchedulable(t, c, name)
			}
			checkNode(t, c)
			deploy(t, c, 30)
			for _, how := range faults {
				t.Run(string(how), func(t *testing.T) { loseNode(t, c, how) })
			}
			t.Run("agent", func(t *testing.T) { restartAgent(t, c) })
			if v := c.Violations(); len(v) > 0 {
				t.Errorf("violations: %v", v)
			}
		})
	}
}

func checkNode(t *testing.T, c *Cluster) {
	t.Helper()
	n, err := c.client.CoreV1().Nodes().Get(t.Context(), "n-0002", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n.Status.Capacity.Cpu().String() != "3" || n.Status.Allocatable.Pods().Value() != 20 || n.Labels["pool"] != "a" {
		t.Errorf("node: capacity %v, labels %v", n.Status.Capacity, n.Labels)
	}
	if a := n.Status.Addresses; len(a) != 2 || a[0].Address != "172.16.1.2" || a[1].Address != "n-0002" {
		t.Errorf("addresses: %v", a)
	}
	if got, want := c.Nodes(), []string{"n-0000", "n-0001", "n-0002", "n-0003", "n-0004", "n-0005"}; !slices.Equal(got, want) {
		t.Errorf("Nodes: %v, want %v", got, want)
	}
}

func deploy(t *testing.T, c *Cluster, replicas int32) {
	t.Helper()
	labels := map[string]string{"app": "web"}
	second := int64(1)
	_, err := c.client.AppsV1().Deployments("default").Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: v1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: v1.PodSpec{
					Containers: []v1.Container{{Name: "c", Image: "web:1"}},
					Tolerations: []v1.Toleration{
						{Key: v1.TaintNodeUnreachable, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute, TolerationSeconds: &second},
					},
				},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	waitAvailable(t, c, replicas)
}

func waitAvailable(t *testing.T, c *Cluster, want int32) {
	t.Helper()
	eventually(t, 60*time.Second, func() error {
		d, err := c.client.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if d.Status.AvailableReplicas != want {
			return fmt.Errorf("%d replicas are available, want %d", d.Status.AvailableReplicas, want)
		}
		return nil
	})
}

// waitSettled waits until there are so many pods, and all of them run.
func waitSettled(t *testing.T, c *Cluster, want int) {
	t.Helper()
	eventually(t, 60*time.Second, func() error {
		pods, err := c.client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		running := 0
		for i := range pods.Items {
			if pods.Items[i].Status.Phase == v1.PodRunning && pods.Items[i].DeletionTimestamp == nil {
				running++
			}
		}
		if running != want || len(pods.Items) != want {
			return fmt.Errorf("%d of %d pods are running, want %d", running, len(pods.Items), want)
		}
		return nil
	})
}

// podsOn are the names of the pods on a node, and how many of them are running.
func podsOn(t *testing.T, c *Cluster, node string) (names []string, running int) {
	t.Helper()
	pods, err := c.client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		t.Fatal(err)
	}
	for i := range pods.Items {
		names = append(names, pods.Items[i].Name)
		if pods.Items[i].Status.Phase == v1.PodRunning {
			running++
		}
	}
	return names, running
}

func inRuntime(t *testing.T, c *Cluster, node string) int {
	t.Helper()
	n, err := c.fleet.node(node)
	if err != nil {
		t.Fatal(err)
	}
	return len(n.runtime.Usage())
}

// loseNode takes a node away, sees its pods come up elsewhere, brings it back and
// sees it clean up.
func loseNode(t *testing.T, c *Cluster, how Fault) {
	const name = "n-0001"
	before, running := podsOn(t, c, name)
	if running == 0 {
		t.Fatalf("no pods are running on %s", name)
	}
	if err := c.KillNode(name, how); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	phase := func(what string) {
		t.Logf("%s after %v", what, time.Since(began))
		began = time.Now()
	}
	if err := c.KillNode(name, how); err == nil {
		t.Error("a dead node was killed again")
	}
	waitNode(t, c, name, v1.ConditionUnknown)
	phase("Ready is Unknown")
	if got := inRuntime(t, c, name) > 0; got != (how == FaultNetwork) {
		t.Errorf("pods run on the node: %t", got)
	}
	eventually(t, 60*time.Second, func() error {
		left, _ := podsOn(t, c, name)
		pods, err := c.client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{FieldSelector: "status.phase=Running"})
		if err != nil {
			return err
		}
		ready := 0
		for i := range pods.Items {
			if pods.Items[i].Spec.NodeName != name {
				ready++
			}
		}
		if ready != 30 {
			return fmt.Errorf("%d pods run elsewhere, want 30; left on %s: %d", ready, name, len(left))
		}
		return nil
	})
	phase("the pods run elsewhere")
	if err := c.RestoreNode(name); err != nil {
		t.Fatal(err)
	}
	waitNode(t, c, name, v1.ConditionTrue)
	phase("the node is Ready again")
	eventually(t, 60*time.Second, func() error {
		left, _ := podsOn(t, c, name)
		for _, p := range left {
			if slices.Contains(before, p) {
				return fmt.Errorf("pod %s is still there", p)
			}
		}
		if n := inRuntime(t, c, name); n > len(left) {
			return fmt.Errorf("%d pods run on the node, want at most %d", n, len(left))
		}
		return nil
	})
	if err := c.RestoreNode(name); err == nil {
		t.Error("a node was restored that is well")
	}
	phase("the node has cleaned up")
	spread(t, c, name)
	phase("pods run on the node")
}

// waitSchedulable waits until the controllers have noticed that a node is Ready.
func waitSchedulable(t *testing.T, c *Cluster, name string) {
	t.Helper()
	waitNode(t, c, name, v1.ConditionTrue)
	eventually(t, 60*time.Second, func() error {
		n, err := c.client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(n.Spec.Taints) > 0 {
			return fmt.Errorf("node %s has taints: %v", name, n.Spec.Taints)
		}
		return nil
	})
}

// spread deletes pods until some are on the node, which the scheduler prefers as
// the emptiest one.
func spread(t *testing.T, c *Cluster, node string) {
	t.Helper()
	waitSchedulable(t, c, node)
	if err := c.client.CoreV1().Pods("default").DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, func() error {
		if _, running := podsOn(t, c, node); running < 3 {
			return fmt.Errorf("%d pods run on %s, want 3 or more", running, node)
		}
		return nil
	})
	waitAvailable(t, c, 30)
}

// restartAgent kills an agent for a moment: its pods must not notice.
func restartAgent(t *testing.T, c *Cluster) {
	const name = "n-0001"
	waitSettled(t, c, 30)
	before, running := podsOn(t, c, name)
	if err := c.KillNode(name, FaultAgent); err != nil {
		t.Fatal(err)
	}
	if got := inRuntime(t, c, name); got != running {
		t.Errorf("%d pods run without the agent, want %d", got, running)
	}
	if err := c.RestoreNode(name); err != nil {
		t.Fatal(err)
	}
	waitNode(t, c, name, v1.ConditionTrue)
	time.Sleep(2 * time.Second)
	after, stillRunning := podsOn(t, c, name)
	slices.Sort(before)
	slices.Sort(after)
	if !slices.Equal(before, after) || stillRunning != running {
		t.Errorf("pods after: %v, %d running; before: %v, %d running", after, stillRunning, before, running)
	}
	pods, err := c.client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + name})
	if err != nil {
		t.Fatal(err)
	}
	for i := range pods.Items {
		for _, s := range pods.Items[i].Status.ContainerStatuses {
			if s.RestartCount != 0 {
				t.Errorf("pod %s: %d restarts", pods.Items[i].Name, s.RestartCount)
			}
		}
	}
}

func TestPodNetworks(t *testing.T) {
	f := &fleet{}
	for _, step := range []struct {
		pods int64
		want string
	}{
		{110, "10.128.0.0/24"},
		{0, "10.128.1.0/24"},
		{250, "10.128.2.0/23"},
		{110, "10.128.4.0/24"},
		{1000, "10.128.8.0/21"},
		{128, "10.128.16.0/24"},
	} {
		got, err := f.podCIDR(step.pods)
		if err != nil || got != netip.MustParsePrefix(step.want) {
			t.Errorf("pod network for %d pods: %v, %v; want %s", step.pods, got, err, step.want)
		}
	}
	f.podAddresses = 1<<23 - 256
	if got, err := f.podCIDR(110); err != nil || got.String() != "10.255.255.0/24" {
		t.Errorf("the last pod network: %v, %v", got, err)
	}
	if got, err := f.podCIDR(110); err == nil {
		t.Errorf("one pod network too many: %v", got)
	}
}
