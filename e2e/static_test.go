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
	manifests := c.path("manifests")
	if err := os.MkdirAll(manifests, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(manifests, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(filepath.Join(manifests, name)) })
	}
	manifest := func(name string) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"namespace":%q,"labels":{"app":%q}},
			"spec":{"terminationGracePeriodSeconds":1,"containers":[{"name":"c","image":"e2e.test/app:1"}]}}`, name, ns, name)
	}
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
	for end := time.Now().Add(time.Minute); c.identities(t, ns)["two-"+nodeName+"/c"] == ""; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a static pod does not run without an API server")
		}
	}
	c.agent.kill()
	if err := c.startControlPlane(); err != nil {
		t.Fatal(err)
	}
	c.startAgent(t)
	c.ready(t, ns, "app=two", 1)
	for _, name := range []string{"one", "two"} {
		if err := os.Remove(filepath.Join(manifests, name+".yaml")); err != nil {
			t.Fatal(err)
		}
		c.ready(t, ns, "app="+name, 0)
	}
	if left := c.identities(t, ns); len(left) > 0 {
		t.Errorf("without manifests there are\n%s", lines(left))
	}
}
