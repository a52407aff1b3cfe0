package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A critical pod that is bound to a full node has room made for it; an ordinary one has
// not.
func TestPreemption(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "preemption")
	n, err := c.kube.CoreV1().Nodes().Get(t.Context(), nodeName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cpu := n.Status.Allocatable.Cpu().MilliValue()
	wants := func(cpu int64) string { return fmt.Sprintf(`"resources":{"requests":{"cpu":"%dm"}}`, cpu) }
	const here = `"nodeName":"` + nodeName + `",`
	c.apply(t, ns, pod("small", "", wants(100)))
	c.apply(t, ns, pod("large", "", wants(cpu-400)))
	c.ready(t, ns, "app in (small,large)", 2)
	small := c.ready(t, ns, "app=small", 1)[0]

	c.apply(t, ns, pod("ordinary", here, wants(500)))
	t.Cleanup(func() {
		c.kubectl(t, "", "delete", "pod", "critical", "-n", metav1.NamespaceSystem, "--ignore-not-found")
	})
	c.apply(t, metav1.NamespaceSystem, pod("critical", here+`"priorityClassName":"system-node-critical",`, wants(500)))
	phase := func(name string, want v1.PodPhase, reason string) (p *v1.Pod) {
		t.Helper()
		c.eventually(t, name+" is "+string(want), time.Minute, func(ctx context.Context) (err error) {
			if p, err = c.kube.CoreV1().Pods(ns).Get(ctx, name, metav1.GetOptions{}); err != nil {
				return err
			}
			if p.Status.Phase != want || p.Status.Reason != reason {
				return fmt.Errorf("%s %s: %s", p.Status.Phase, p.Status.Reason, p.Status.Message)
			}
			return nil
		})
		return p
	}
	phase("ordinary", v1.PodFailed, "OutOfcpu")
	large := phase("large", v1.PodFailed, "Preempting")
	if !slices.ContainsFunc(large.Status.Conditions, func(c v1.PodCondition) bool {
		return c.Type == v1.DisruptionTarget && c.Status == v1.ConditionTrue && c.Reason == v1.PodReasonTerminationByKubelet
	}) {
		t.Errorf("conditions %+v", large.Status.Conditions)
	}
	c.ready(t, metav1.NamespaceSystem, "app=critical", 1)
	running, err := c.engine.Containers(t.Context(), "io.kubernetes.pod.uid="+string(large.UID))
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range running {
		if one.State == "running" {
			t.Errorf("of the pod that made room this runs on: %+v", one)
		}
	}
	if now := c.ready(t, ns, "app=small", 1)[0]; now.UID != small.UID || container(&now, "c").RestartCount != 0 {
		t.Errorf("the one that had to make no room: %s", describe([]v1.Pod{now}))
	}
}
