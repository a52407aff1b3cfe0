package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Ephemeral containers are started in a pod that runs, see the processes of their
// target, and are never started again.
func TestEphemeralContainers(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "debug")
	c.apply(t, ns, pod("p", "", `"args":["serve"]`))
	before := c.ready(t, ns, "app=p", 1)[0]
	before.Spec.EphemeralContainers = []v1.EphemeralContainer{
		// The first process that it sees is the server.
		{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "look", Image: testImage, Args: []string{"cat", "/proc/1/cmdline"},
			TerminationMessagePolicy: v1.TerminationMessageReadFile}, TargetContainerName: "c"},
		{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "stay", Image: testImage, Args: []string{"stubborn"}}},
	}
	if _, err := c.kube.CoreV1().Pods(ns).UpdateEphemeralContainers(t.Context(), "p", &before, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	var after *v1.Pod
	c.eventually(t, "one has ended and the other runs", time.Minute, func(ctx context.Context) (err error) {
		if after, err = c.kube.CoreV1().Pods(ns).Get(ctx, "p", metav1.GetOptions{}); err != nil {
			return err
		}
		s := after.Status.EphemeralContainerStatuses
		if len(s) != 2 || s[0].State.Terminated == nil || s[1].State.Running == nil {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	look := after.Status.EphemeralContainerStatuses[0]
	if got := c.log(t, look.ContainerID[len("docker://"):]); got != "/test\x00serve\x00" || look.State.Terminated.ExitCode != 0 {
		t.Errorf("it saw %q and ended with %+v", got, look.State.Terminated)
	}
	if !isReady(after) || container(after, "c").RestartCount != 0 {
		t.Errorf("the pod: %s", describe([]v1.Pod{*after}))
	}
	// A new agent knows that it was started once.
	c.agent.kill()
	c.startAgent(t)
	c.apply(t, ns, pod("q", "", ""))
	c.ready(t, ns, "app=q", 1)
	again, err := c.kube.CoreV1().Pods(ns).Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s := again.Status.EphemeralContainerStatuses; len(s) != 2 || s[0].ContainerID != look.ContainerID || s[0].RestartCount != 0 || s[1].State.Running == nil {
		t.Errorf("after the agent's restart: %+v", s)
	}
	c.kubectl(t, "", "delete", "pod", "-n", ns, "p")
	if left := c.containers(t, string(after.UID)); len(left) > 0 {
		t.Errorf("the deleted pod left %v", left)
	}
}

// CPU and memory are changed in the running container, and the agent's death does
// not change what was granted.
func TestResize(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "resize")
	c.apply(t, ns, pod("p", "", `"resources":{"requests":{"cpu":"50m","memory":"16Mi"},"limits":{"cpu":"500m","memory":"64Mi"}}`))
	before := c.ready(t, ns, "app=p", 1)[0]
	resize := func(requests, limits string) {
		t.Helper()
		c.kubectl(t, "", "patch", "pod", "p", "-n", ns, "--subresource=resize", "--patch",
			fmt.Sprintf(`{"spec":{"containers":[{"name":"c","resources":{"requests":{%s},"limits":{%s}}}]}}`, requests, limits))
	}
	shows := func(what, cpu, memory string, condition v1.PodConditionType) (p *v1.Pod) {
		t.Helper()
		c.eventually(t, what, time.Minute, func(ctx context.Context) (err error) {
			if p, err = c.kube.CoreV1().Pods(ns).Get(ctx, "p", metav1.GetOptions{}); err != nil {
				return err
			}
			s, has := container(p, "c"), v1.PodConditionType("")
			for _, one := range p.Status.Conditions {
				if one.Type == v1.PodResizePending || one.Type == v1.PodResizeInProgress {
					has = one.Type
				}
			}
			if s.Resources == nil || s.Resources.Limits.Cpu().String() != cpu || s.Resources.Limits.Memory().String() != memory || has != condition {
				return fmt.Errorf("%q, %s", has, describe([]v1.Pod{*p}))
			}
			return nil
		})
		return p
	}
	resize(`"cpu":"100m"`, `"cpu":"800m","memory":"96Mi"`)
	after := shows("the container has more", "800m", "96Mi", "")
	s := container(after, "c")
	if s.ContainerID != container(&before, "c").ContainerID || s.RestartCount != 0 || s.AllocatedResources.Cpu().String() != "100m" {
		t.Errorf("after the resize: %s", describe([]v1.Pod{*after}))
	}
	c.limited(t, after, "c", "burstable/pod"+string(after.UID), 102, 80_000, 96<<20)
	n, err := c.kube.CoreV1().Nodes().Get(t.Context(), nodeName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.apply(t, ns, pod("holder", "", fmt.Sprintf(`"resources":{"requests":{"cpu":"%dm"}}`, n.Status.Allocatable.Cpu().MilliValue()-500)))
	c.ready(t, ns, "app=holder", 1)
	resize(`"cpu":"600m"`, `"cpu":"800m"`)
	shows("for so much there is no room", "800m", "96Mi", v1.PodResizePending)
	c.agent.kill()
	c.startAgent(t)
	c.apply(t, ns, pod("q", "", ""))
	c.ready(t, ns, "app=q", 1)
	last := shows("a new agent grants no more", "800m", "96Mi", v1.PodResizePending)
	if s := container(last, "c"); s.RestartCount != 0 || !isReady(last) {
		t.Errorf("after the agent's restart: %s", describe([]v1.Pod{*last}))
	}
	c.kubectl(t, "", "delete", "pod", "-n", ns, "holder")
	last = shows("then there is", "800m", "96Mi", "")
	if s := container(last, "c"); s.RestartCount != 0 || s.AllocatedResources.Cpu().String() != "600m" {
		t.Errorf("with the room of another pod: %s", describe([]v1.Pod{*last}))
	}
	c.eventually(t, "events tell of it", time.Minute, func(ctx context.Context) error {
		for _, reason := range []string{"ResizeStarted", "ResizeCompleted", "ResizeDeferred"} {
			if err := c.hasEvent(ctx, ns, "p", reason, "Pod resize"); err != nil {
				return err
			}
		}
		return nil
	})
}
