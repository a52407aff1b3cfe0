package simcluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent"
	"nodelet/agent/pod"
)

const (
	staticNode   = "n-0000"
	staticMirror = "web-n-0000"
)

// TestStaticPod follows a static pod of one node from its manifest to its end:
// its mirror in the API server is true, and is not what it lives by.
func TestStaticPod(t *testing.T) {
	manifest := filepath.Join(t.TempDir(), "web.yaml")
	writeManifest(t, manifest, "web:1")
	options := impatient(Faithful)
	change := options.Agent
	options.Agent = func(c *agent.Config) {
		change(c)
		c.StaticPodPath, c.FileCheckFrequency = filepath.Dir(manifest), time.Second
	}
	c := startCluster(t, options)
	if err := c.AddNodes(t.Context(), NodeGroup{Name: "n", Count: 1}); err != nil {
		t.Fatal(err)
	}
	first := waitMirror(t, c, "", "web:1")
	checkMirror(t, c, first)

	// Deleting the mirror is not deleting the pod.
	if err := c.client.CoreV1().Pods("default").Delete(t.Context(), staticMirror, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	second := waitMirror(t, c, first.UID, "web:1")
	if a, b := first.Status.ContainerStatuses[0], second.Status.ContainerStatuses[0]; a.ContainerID != b.ContainerID || b.RestartCount != 0 {
		t.Errorf("the container was %s, and is %s with %d restarts", a.ContainerID, b.ContainerID, b.RestartCount)
	}

	// Another manifest is another pod.
	writeManifest(t, manifest, "web:2")
	third := waitMirror(t, c, second.UID, "web:2")
	if third.Annotations[pod.AnnotationHash] == second.Annotations[pod.AnnotationHash] {
		t.Error("the hash is that of the old manifest")
	}

	// The machine starts anew while it is cut off.
	if err := c.KillNode(staticNode, FaultPower); err != nil {
		t.Fatal(err)
	}
	powerOnCutOff(t, c)
	eventually(t, 30*time.Second, func() error {
		if inRuntime(t, c, staticNode) == 0 {
			return errors.New("the static pod does not run without an API server")
		}
		return nil
	})
	if err := c.RestoreNode(staticNode); err != nil {
		t.Fatal(err)
	}
	waitNode(t, c, staticNode, v1.ConditionTrue)
	waitMirror(t, c, "", "web:2")

	if err := os.Remove(manifest); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, func() error {
		_, err := c.client.CoreV1().Pods("default").Get(t.Context(), staticMirror, metav1.GetOptions{})
		if n := inRuntime(t, c, staticNode); !apierrors.IsNotFound(err) || n != 0 {
			return fmt.Errorf("%d pods run; getting the mirror: %v", n, err)
		}
		return nil
	})
	if v := c.Violations(); len(v) > 0 {
		t.Errorf("violations: %v", v)
	}
}

func writeManifest(t *testing.T, path, image string) {
	t.Helper()
	text := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: web}}\n"+
		"spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: %q}]}\n", image)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// waitMirror waits until the mirror is another one than the one given, of that
// image, and says that the pod is ready.
func waitMirror(t *testing.T, c *Cluster, not types.UID, image string) *v1.Pod {
	t.Helper()
	var mirror *v1.Pod
	eventually(t, 60*time.Second, func() error {
		var err error
		mirror, err = c.client.CoreV1().Pods("default").Get(t.Context(), staticMirror, metav1.GetOptions{})
		if err != nil {
			return err
		}
		s := &mirror.Status
		ready := len(s.ContainerStatuses) == 1 && s.ContainerStatuses[0].Ready
		if mirror.UID == not || mirror.Spec.Containers[0].Image != image || s.Phase != v1.PodRunning || !ready {
			return fmt.Errorf("mirror %s of %s: phase %s, ready %t", mirror.UID, mirror.Spec.Containers[0].Image, s.Phase, ready)
		}
		return nil
	})
	return mirror
}

func checkMirror(t *testing.T, c *Cluster, mirror *v1.Pod) {
	t.Helper()
	n, err := c.client.CoreV1().Nodes().Get(t.Context(), staticNode, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if o := metav1.GetControllerOf(mirror); o == nil || o.Kind != "Node" || o.UID != n.UID {
		t.Errorf("the mirror's owner: %+v", o)
	}
	hash := mirror.Annotations[pod.AnnotationHash]
	if hash == "" || mirror.Annotations[pod.AnnotationMirror] != hash || mirror.Annotations[pod.AnnotationSource] != "file" {
		t.Errorf("the mirror's annotations: %v", mirror.Annotations)
	}
	if mirror.Status.PodIP == "" || mirror.Status.HostIP == "" || mirror.Status.StartTime == nil || mirror.Status.QOSClass != v1.PodQOSBestEffort {
		t.Errorf("the mirror's status: %+v", mirror.Status)
	}
}

// powerOnCutOff switches the machine on without its network.
func powerOnCutOff(t *testing.T, c *Cluster) {
	t.Helper()
	n, err := c.fleet.node(staticNode)
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.machine.reboot()
	n.runtime.PowerOn()
	if err := c.fleet.startAgent(n); err != nil {
		t.Fatal(err)
	}
	n.fault = FaultNetwork
}
