package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/dockertest"
)

const limitedPods = `
apiVersion: v1
kind: Pod
metadata: {name: over, labels: {app: p}}
spec:
  terminationGracePeriodSeconds: 60
  containers:
  - name: c
    image: e2e.test/app:1
    args: [stubborn]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {sizeLimit: 2Mi}}]
---
apiVersion: v1
kind: Pod
metadata: {name: within, labels: {app: p}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: e2e.test/app:1
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {sizeLimit: 2Mi}}]
`

// A pod that writes more to an emptyDir than it may is evicted, soon and without
// much ado; its neighbour stays.
func TestEmptyDirLimit(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "limits")
	c.apply(t, ns, limitedPods)
	pods := c.ready(t, ns, "app=p", 2)
	for i := range pods {
		size := 1 << 20
		if pods[i].Name == "over" {
			size = 3 << 20
		}
		in := c.inside(t, &pods[i], "c")
		if code, out := in.run("fill", "/data/f", fmt.Sprint(size)); code != 0 {
			t.Fatalf("writing: %s", out)
		}
	}
	written := time.Now()
	var p *v1.Pod
	c.eventually(t, "the pod has failed", 30*time.Second, func(ctx context.Context) (err error) {
		p, err = c.kube.CoreV1().Pods(ns).Get(ctx, "over", metav1.GetOptions{})
		if err == nil && p.Status.Phase != v1.PodFailed {
			err = fmt.Errorf("phase %s", p.Status.Phase)
		}
		return err
	})
	t.Logf("evicted %.1f s after it has written", time.Since(written).Seconds())
	const message = `Usage of EmptyDir volume "data" exceeds the limit "2Mi". `
	if p.Status.Reason != "Evicted" || p.Status.Message != message {
		t.Errorf("reason %q, message %q", p.Status.Reason, p.Status.Message)
	}
	if s := container(p, "c").State.Terminated; s == nil || s.ExitCode != 137 {
		t.Errorf("the container's state is %+v", container(p, "c").State)
	}
	for _, condition := range p.Status.Conditions {
		if condition.Type == v1.DisruptionTarget {
			t.Errorf("it has %+v, which a kubelet sets under pressure only", condition)
		}
	}
	c.eventually(t, "the event is told", 10*time.Second, func(ctx context.Context) error {
		events, err := c.kube.CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "reason=Evicted"})
		if err == nil && (len(events.Items) != 1 || events.Items[0].Message != message || events.Items[0].Type != v1.EventTypeWarning) {
			err = fmt.Errorf("events %+v", events.Items)
		}
		return err
	})
	if p, err := c.kube.CoreV1().Pods(ns).Get(t.Context(), "within", metav1.GetOptions{}); err != nil || !isReady(p) {
		t.Errorf("the other pod is not ready: %v", err)
	}
}

const readOnlyPod = `
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: e2e.test/app:1
    volumeMounts:
    - {name: host, mountPath: /enabled, readOnly: true, recursiveReadOnly: Enabled}
    - {name: host, mountPath: /possible, readOnly: true, recursiveReadOnly: IfPossible}
    - {name: host, mountPath: /disabled, readOnly: true}
    - {name: host, mountPath: /sub, readOnly: true, recursiveReadOnly: Enabled, subPath: plain}
  volumes: [{name: host, hostPath: {path: "@HOST"}}]
`

// A process cannot write to what is mounted below a volume that is read-only in all
// its depth, the node says that it can do that, and the machine keeps what it has.
func TestRecursiveReadOnly(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "readonly")
	host := t.TempDir()
	for _, dir := range []string{"plain", "mnt"} {
		if err := os.Mkdir(filepath.Join(host, dir), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("tmpfs", host+"/mnt", "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(host+"/mnt", unix.MNT_DETACH) })
	for _, file := range []string{"plain/f", "mnt/f"} {
		if err := os.WriteFile(filepath.Join(host, file), []byte("of the machine"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.apply(t, ns, strings.ReplaceAll(readOnlyPod, "@HOST", host))
	p := c.ready(t, ns, "app=p", 1)[0]
	in := c.inside(t, &p, "c")
	const readOnly = "read-only file system"
	for file, refusal := range map[string]string{
		"/enabled/g": readOnly, "/enabled/plain/g": readOnly, "/enabled/mnt/g": readOnly, "/possible/mnt/g": readOnly,
		"/disabled/g": readOnly, "/disabled/mnt/g": "", "/sub/g": readOnly,
	} {
		in.writes(file, refusal)
	}
	for _, file := range []string{"/enabled/plain/f", "/enabled/mnt/f", "/sub/f"} {
		in.reads(file, "of the machine")
	}
	in.reads("/enabled/mnt/g", "written")
	for i, want := range []v1.RecursiveReadOnlyMode{v1.RecursiveReadOnlyEnabled, v1.RecursiveReadOnlyEnabled, v1.RecursiveReadOnlyDisabled} {
		if m := container(&p, "c").VolumeMounts[i]; m.RecursiveReadOnly == nil || *m.RecursiveReadOnly != want {
			t.Errorf("the status says %+v, want %s", m, want)
		}
	}
	node, err := c.kube.CoreV1().Nodes().Get(t.Context(), nodeName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	handlers := node.Status.RuntimeHandlers
	if len(handlers) != 1 || handlers[0].Name != "" || !*handlers[0].Features.RecursiveReadOnlyMounts {
		t.Errorf("the node's runtime handlers are %+v", handlers)
	}

	// Also what is left behind by an agent that was killed is undone.
	c.agent.kill()
	zero := int64(0)
	if err := c.kube.CoreV1().Pods(ns).Delete(t.Context(), "p", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	c.startAgent(t)
	c.eventually(t, "nothing is left", 30*time.Second, func(context.Context) error {
		return c.nothingLeft(c.path("kubelet/pods/" + string(p.UID)))
	})
	for _, file := range []string{"plain/f", "mnt/f", "mnt/g"} {
		if _, err := os.Stat(filepath.Join(host, file)); err != nil {
			t.Errorf("the machine has lost a file: %v", err)
		}
	}
	if err := os.WriteFile(host+"/mnt/h", nil, 0o644); err != nil {
		t.Errorf("the machine's own mount: %v", err)
	}
}

const imagePods = `
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}}
spec:
  terminationGracePeriodSeconds: 1
  imagePullSecrets: [{name: right}]
  containers:
  - name: c
    image: e2e.test/app:1
    volumeMounts:
    - {name: content, mountPath: /content}
    - {name: content, mountPath: /sub, subPath: etc}
  volumes: [{name: content, image: {reference: "@IMAGE"}}]
---
apiVersion: v1
kind: Pod
metadata: {name: refused}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: e2e.test/app:1
    volumeMounts: [{name: content, mountPath: /content}]
  - {name: without, image: "e2e.test/app:1", args: [serve, "8081"]}
  volumes: [{name: content, image: {reference: "@IMAGE"}}]
`

// A process reads what an image has that is mounted as a volume, and can neither
// change nor run it. A pod that may not have it waits, though it is on the machine.
func TestImageVolume(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "content")
	r := dockertest.NewPrivateRegistry(t, "jane", "pass:word")
	ref, _ := r.Push(t, "team/content", "1")
	c.kubectl(t, "", "create", "secret", "docker-registry", "-n", ns, "right", "--docker-server="+r.Host, "--docker-username="+r.Username, "--docker-password="+r.Password)
	c.apply(t, ns, strings.ReplaceAll(imagePods, "@IMAGE", ref))
	p := c.ready(t, ns, "app=p", 1)[0]
	in := c.inside(t, &p, "c")
	in.reads("/content/etc/passwd", dockertest.Users)
	in.reads("/sub/passwd", dockertest.Users)
	for _, file := range []string{"/content/f", "/content/etc/passwd", "/sub/f"} {
		in.writes(file, "read-only file system")
	}
	if code, out, err := c.engine.Exec(t.Context(), in.id, "/content/test", "echo", "hello"); err == nil && code == 0 {
		t.Errorf("a program of the image ran: %q", out)
	}
	c.eventually(t, "the image's pull is told", 10*time.Second, func(ctx context.Context) error {
		return c.hasEvent(ctx, ns, "p", "Pulled", fmt.Sprintf("Successfully pulled image %q in ", ref))
	})
	c.eventually(t, "the other pod waits", time.Minute, func(ctx context.Context) error {
		p, err := c.kube.CoreV1().Pods(ns).Get(ctx, "refused", metav1.GetOptions{})
		if err != nil {
			return err
		}
		waiting := container(p, "c").State.Waiting
		if waiting == nil || waiting.Reason != "ImagePullBackOff" || !strings.HasPrefix(waiting.Message, fmt.Sprintf("Back-off pulling image %q: ErrImagePull: ", ref)) ||
			container(p, "without").State.Running == nil {
			return fmt.Errorf("%s", describe([]v1.Pod{*p}))
		}
		return nil
	})

	c.agent.kill()
	zero := int64(0)
	if err := c.kube.CoreV1().Pods(ns).Delete(t.Context(), "p", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	c.startAgent(t)
	c.eventually(t, "nothing is left", 30*time.Second, func(context.Context) error {
		return c.nothingLeft(c.path("kubelet/pods/" + string(p.UID)))
	})
	image, err := c.engine.Client.ImageInspect(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(image.GraphDriver.Data["UpperDir"], "etc/passwd")); err != nil || string(data) != dockertest.Users {
		t.Errorf("the image has %q, %v", data, err)
	}
}
