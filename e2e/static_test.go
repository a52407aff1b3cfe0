package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A static pod runs, with or without an API server, and has a mirror there.
func TestStaticPod(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "static")
	write := func(name, content string) { t.Helper(); c.writeManifest(t, name, content) }
	manifest := func(name string) string { return staticPod(ns, name) }
	write("broken.yaml", "kind: Pod\nspec: [")
	write("one.yaml", manifest("one"))
	mirror := c.ready(t, ns, "app=one", 1)[0]
	if mirror.Name != "one-"+nodeName || get(t, "http://"+mirror.Status.PodIP+":8080/x") == "" {
		t.Errorf("mirror %s at %s", mirror.Name, mirror.Status.PodIP)
	}
	before := c.identities(t, ns)
	c.kubectl(t, "", "delete", "pod", "-n", ns, "--wait=false", mirror.Name)
	c.eventually(t, "the mirror is there again", time.Minute, func(ctx context.Context) error {
		p, err := c.kube.CoreV1().Pods(ns).Get(ctx, mirror.Name, metav1.GetOptions{})
		if err == nil && (p.UID == mirror.UID || !isReady(p)) {
			err = fmt.Errorf("UID %s, %s", p.UID, p.Status.Phase)
		}
		return err
	})
	same(t, "while its mirror was deleted", before, c.identities(t, ns))

	c.sim.kill()
	write("two.yaml", manifest("two"))
	c.runsStatic(t, ns, "two")
	c.agent.kill()
	if err := c.startControlPlane(); err != nil {
		t.Fatal(err)
	}
	c.startAgent(t)
	c.ready(t, ns, "app=two", 1)
	for _, name := range []string{"one", "two"} {
		if err := os.Remove(c.path("manifests/" + name + ".yaml")); err != nil {
			t.Fatal(err)
		}
		c.ready(t, ns, "app="+name, 0)
	}
	if left := c.identities(t, ns); len(left) > 0 {
		t.Errorf("without manifests there are\n%s", lines(left))
	}
}

// Without any API server the agent runs static pods, finds them again when it is
// started anew, and ends those whose manifests are gone.
func TestStandalone(t *testing.T) {
	c := start(t)
	c.agent.kill()
	t.Cleanup(func() { c.agent.kill() })
	const ns = "standalone"
	c.startProcess(t)
	c.writeManifest(t, "alone.yaml", staticPod(ns, "alone"))
	c.runsStatic(t, ns, "alone")
	before := c.identities(t, ns)
	c.agent.kill()
	c.startProcess(t)
	c.writeManifest(t, "later.yaml", staticPod(ns, "later"))
	c.runsStatic(t, ns, "later")
	if after := c.identities(t, ns); after["alone-"+nodeName+"/c"] != before["alone-"+nodeName+"/c"] {
		t.Errorf("before the agent's restart\n%s\nafter\n%s", lines(before), lines(after))
	}
	for _, name := range []string{"alone", "later"} {
		if err := os.Remove(c.path("manifests/" + name + ".yaml")); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually(t, "nothing is left of the pods", time.Minute, func(context.Context) error {
		if left := c.identities(t, ns); len(left) > 0 {
			return fmt.Errorf("there are\n%s", lines(left))
		}
		return nil
	})
}

// staticPod is the manifest of a pod.
func staticPod(namespace, name string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"namespace":%q,"labels":{"app":%q}},
		"spec":{"terminationGracePeriodSeconds":1,"containers":[{"name":"c","image":"e2e.test/app:1"}]}}`, name, namespace, name)
}

// writeManifest writes a manifest of a static pod, for the time of the test.
func (c *cluster) writeManifest(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(c.path("manifests"), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(path) })
}

// runsStatic waits for a static pod's container.
func (c *cluster) runsStatic(t *testing.T, namespace, name string) {
	t.Helper()
	c.eventually(t, "the static pod "+name+" runs", time.Minute, func(context.Context) error {
		if all := c.identities(t, namespace); all[name+"-"+nodeName+"/c"] == "" {
			return fmt.Errorf("there are\n%s", lines(all))
		}
		return nil
	})
}
