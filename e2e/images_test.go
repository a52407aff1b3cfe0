package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/dockertest"
)

// A private registry's images need the pod's, the service account's or the
// node's credentials.
func TestPrivateRegistry(t *testing.T) {
	c := start(t)
	r := dockertest.NewPrivateRegistry(t, "jane", "pass:word")
	ns := c.namespace(t, "images")
	pulls := func(name, image, fields string) {
		t.Helper()
		c.apply(t, ns, pod(name, fields, fmt.Sprintf(`"image":%q`, image)))
	}

	// Each case has its own repository, since an image that was pulled for all of
	// the node's pods needs no credentials.
	tagged, digested := r.Push(t, "team/app", "1")
	pulls("without", tagged, "")
	c.eventually(t, "the pull is refused", time.Minute, func(ctx context.Context) error {
		p, err := c.kube.CoreV1().Pods(ns).Get(ctx, "without", metav1.GetOptions{})
		if err != nil {
			return err
		}
		waiting := container(p, "c").State.Waiting
		if waiting == nil || waiting.Reason != "ImagePullBackOff" || !strings.Contains(waiting.Message, "no basic auth credentials") {
			return fmt.Errorf("%s", describe([]v1.Pod{*p}))
		}
		return nil
	})
	c.kubectl(t, "", "create", "secret", "docker-registry", "-n", ns, "wrong", "--docker-server="+r.Host, "--docker-username=jane", "--docker-password=guess")
	c.kubectl(t, "", "create", "secret", "docker-registry", "-n", ns, "right", "--docker-server="+r.Host, "--docker-username="+r.Username, "--docker-password="+r.Password)
	// Of several, the one that is right is used.
	pulls("with-secret", tagged, `"imagePullSecrets":[{"name":"absent"},{"name":"wrong"},{"name":"right"}],`)
	with := c.ready(t, ns, "app=with-secret", 1)[0]
	c.eventually(t, "the pull's events", time.Minute, func(ctx context.Context) error {
		for reason, text := range map[string]string{"Pulling": fmt.Sprintf("Pulling image %q", tagged),
			"Pulled": fmt.Sprintf("Successfully pulled image %q in ", tagged)} {
			if err := c.hasEvent(ctx, ns, "with-secret", reason, text); err != nil {
				return err
			}
		}
		return c.hasEvent(ctx, ns, "without", "Failed", `Failed to pull image "`+tagged+`"`)
	})
	if s := container(&with, "c"); s.Image != tagged || s.ImageID != "docker-pullable://"+digested {
		t.Errorf("image %q, imageID %q, want %q and the digest %q", s.Image, s.ImageID, tagged, digested)
	}

	// Others do not have the image because it is there.
	pulls("after", tagged, "")
	c.apply(t, ns, pod("never", "", fmt.Sprintf(`"image":%q,"imagePullPolicy":"Never"`, tagged)))
	c.eventually(t, "a pod without the secret does not get the image", time.Minute, func(ctx context.Context) error {
		if err := c.hasEvent(ctx, ns, "never", "ErrImageNeverPull", fmt.Sprintf("Container image %q is not present with pull policy of Never", tagged)); err != nil {
			return err
		}
		return c.hasEvent(ctx, ns, "after", "Failed", `Failed to pull image "`+tagged+`"`)
	})
	c.kubectl(t, "", "create", "secret", "docker-registry", "-n", ns, "same", "--docker-server="+r.Host, "--docker-username="+r.Username, "--docker-password="+r.Password)
	pulls("same", tagged, `"imagePullSecrets":[{"name":"same"}],`)
	c.eventually(t, "one with another secret of the same credential does", time.Minute, func(ctx context.Context) error {
		return c.hasEvent(ctx, ns, "same", "Pulled", fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", tagged))
	})

	_, other := r.Push(t, "team/other", "1")
	c.kubectl(t, "", "patch", "serviceaccount", "-n", ns, "default", "-p", `{"imagePullSecrets":[{"name":"right"}]}`)
	pulls("by-account", other, "")
	if s := container(&c.ready(t, ns, "app=by-account", 1)[0], "c"); s.ImageID != "docker-pullable://"+other {
		t.Errorf("imageID %q, want %q", s.ImageID, other)
	}
	c.kubectl(t, "", "patch", "serviceaccount", "-n", ns, "default", "-p", `{"imagePullSecrets":null}`)

	node, _ := r.Push(t, "team/node", "1")
	if err := os.WriteFile(c.path("kubelet/config.json"), []byte(r.DockerConfig()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(c.path("kubelet/config.json")) })
	pulls("by-node", node, "")
	c.ready(t, ns, "app=by-node", 1)

	c.eventually(t, "the node reports the images", time.Minute, func(ctx context.Context) error {
		n, err := c.kube.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		found := map[string]bool{}
		for _, image := range n.Status.Images {
			for _, name := range image.Names {
				found[name] = image.SizeBytes > 1<<20
			}
		}
		for _, name := range []string{tagged, digested, other, node} {
			if !found[name] {
				return fmt.Errorf("no %s among %+v", name, n.Status.Images)
			}
		}
		return nil
	})
}

// Pull policies decide whether the registry is asked.
func TestPullPolicy(t *testing.T) {
	c := start(t)
	r := dockertest.NewPrivateRegistry(t, "jane", "pass")
	ns := c.namespace(t, "policy")
	tagged, _ := r.Push(t, "app", "1")
	c.kubectl(t, "", "create", "secret", "docker-registry", "-n", ns, "right", "--docker-server="+r.Host, "--docker-username="+r.Username, "--docker-password="+r.Password)
	for _, test := range []struct{ name, policy, reason, text string }{
		{"first", "IfNotPresent", "Pulled", "Successfully pulled image"},
		{"second", "IfNotPresent", "Pulled", fmt.Sprintf("Container image %q already present on machine", tagged)},
		{"third", "Never", "Pulled", fmt.Sprintf("Container image %q already present on machine", tagged)},
		{"fourth", "Always", "Pulled", "Successfully pulled image"},
	} {
		c.apply(t, ns, pod(test.name, `"imagePullSecrets":[{"name":"right"}],`, fmt.Sprintf(`"image":%q,"imagePullPolicy":%q`, tagged, test.policy)))
		c.ready(t, ns, "app="+test.name, 1)
		c.eventually(t, test.name+" has its event", time.Minute, func(ctx context.Context) error {
			return c.hasEvent(ctx, ns, test.name, test.reason, test.text)
		})
	}
}
