package e2e

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A pod that cannot run says why where the kubelet says it, in its words.
func TestReasons(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "reasons")
	c.apply(t, ns, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"there"},"data":{"a":"b"}}`)
	c.apply(t, ns, pod("holder", `"hostNetwork":false,`, `"ports":[{"containerPort":8080,"hostPort":18080}]`))
	c.ready(t, ns, "app=holder", 1)
	env := func(ref string) string { return `"env":[{"name":"X","valueFrom":` + ref + `}]` }
	for _, test := range []struct {
		name, pod, container string
		// reason and message are the waiting container's, or with a phase the pod's.
		reason, message string
		phase           v1.PodPhase
		event           string
	}{
		{name: "no-image", container: `"image":"127.0.0.1:1/none:1"`, reason: "ErrImagePull|ImagePullBackOff", event: "Failed"},
		{name: "bad-name", container: `"image":"No Such//Image"`, reason: "InvalidImageName|ImagePullBackOff", event: "Failed"},
		{name: "never", container: `"image":"e2e.test/absent:1","imagePullPolicy":"Never"`, reason: "ErrImageNeverPull", event: "ErrImageNeverPull"},
		{name: "no-command", container: `"command":["/no/such/thing"]`, reason: "RunContainerError|CrashLoopBackOff", message: "no/such/thing|back-off", event: "Failed"},
		{name: "no-secret", container: env(`{"secretKeyRef":{"name":"absent","key":"k"}}`), reason: "CreateContainerConfigError",
			message: `secret "absent" not found`, event: "Failed"},
		{name: "no-key", container: env(`{"configMapKeyRef":{"name":"there","key":"k"}}`), reason: "CreateContainerConfigError",
			message: "couldn't find key k in ConfigMap " + ns + "/there", event: "Failed"},
		{name: "no-volume", pod: `"volumes":[{"name":"v","configMap":{"name":"absent"}}],`,
			container: `"volumeMounts":[{"name":"v","mountPath":"/v"}]`, reason: "ContainerCreating", event: "FailedMount"},
		{name: "root", pod: `"securityContext":{"runAsNonRoot":true},`, reason: "CreateContainerConfigError",
			message: "container has runAsNonRoot and image will run as root", event: "Failed"},
		{name: "port", pod: `"nodeName":"e2e",`, container: `"ports":[{"containerPort":8080,"hostPort":18080}]`, phase: v1.PodFailed, reason: "NodePorts", event: "NodePorts"},
		{name: "big", pod: `"nodeName":"e2e",`, container: `"resources":{"requests":{"memory":"1000Ti"}}`, phase: v1.PodFailed, reason: "OutOfmemory", event: "OutOfmemory"},
		{name: "selector", pod: `"nodeName":"e2e","nodeSelector":{"no":"where"},`, phase: v1.PodFailed, reason: "NodeAffinity", event: "NodeAffinity"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c.apply(t, ns, pod(test.name, test.pod, test.container))
			c.eventually(t, "the pod says why", time.Minute, func(ctx context.Context) error {
				p, err := c.kube.CoreV1().Pods(ns).Get(ctx, test.name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				reason, message := p.Status.Reason, p.Status.Message
				if test.phase == "" {
					waiting := container(p, "c").State.Waiting
					if waiting == nil {
						waiting = &v1.ContainerStateWaiting{}
					}
					reason, message = waiting.Reason, waiting.Message
				} else if p.Status.Phase != test.phase {
					return fmt.Errorf("phase %s", p.Status.Phase)
				}
				if !oneOf(reason, test.reason) || test.message != "" && !containsOne(message, test.message) {
					return fmt.Errorf("%s: %s", reason, message)
				}
				return c.hasEvent(ctx, ns, test.name, test.event, "")
			})
		})
	}
	// What was missing comes, and the pod runs.
	c.kubectl(t, "", "create", "secret", "generic", "absent", "-n", ns, "--from-literal=k=v")
	c.kubectl(t, "", "create", "configmap", "absent", "-n", ns, "--from-literal=k=v")
	c.ready(t, ns, "app=no-secret", 1)
	c.ready(t, ns, "app=no-volume", 1)
	if conn, err := net.DialTimeout("tcp", "127.0.0.1:18080", 5*time.Second); err != nil {
		t.Errorf("the host port: %v", err)
	} else {
		conn.Close()
	}
}

func oneOf(s, alternatives string) bool {
	for a := range strings.SplitSeq(alternatives, "|") {
		if s == a {
			return true
		}
	}
	return false
}

func containsOne(s, alternatives string) bool {
	for a := range strings.SplitSeq(alternatives, "|") {
		if strings.Contains(s, a) {
			return true
		}
	}
	return false
}

// pod is a manifest of a pod with one container, c, with fields added to the
// pod's spec and to the container.
func pod(name, spec, container string) string {
	image := `"image":"e2e.test/app:1"`
	switch {
	case strings.Contains(container, `"image"`):
		image = container
	case container != "":
		image += "," + container
	}
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"labels":{"app":%q}},
		"spec":{%s"terminationGracePeriodSeconds":1,"containers":[{"name":"c",%s}]}}`, name, name, spec, image)
}

// hasEvent is an error unless a pod has an event with a reason, of which the
// message starts so.
func (c *cluster) hasEvent(ctx context.Context, namespace, pod, reason, message string) error {
	events, err := c.kube.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod})
	if err != nil {
		return err
	}
	var seen []string
	for _, e := range events.Items {
		if e.Reason == reason && strings.HasPrefix(e.Message, message) {
			return nil
		}
		seen = append(seen, e.Reason+": "+e.Message)
	}
	return fmt.Errorf("no event %s: %s among %q", reason, message, seen)
}
