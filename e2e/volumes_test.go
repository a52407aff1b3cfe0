package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// everyKind has volumes of every kind: @HOST is a directory of the machine, @NS
// the namespace. The container runs as a user who is in no group but the pod's.
const everyKind = `
apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data: {a: hello, b: unread}
---
apiVersion: v1
kind: Secret
metadata: {name: secret}
stringData: {r: one, s: one, t: one}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: "@NS"}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}, annotations: {note: "first"}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 77}
  containers:
  - name: c
    image: e2e.test/app:1
    volumeMounts:
    - {name: disk, mountPath: /disk}
    - {name: disk, mountPath: /disk-ro, readOnly: true}
    - {name: disk, mountPath: /sub, subPath: deep/er}
    - {name: memory, mountPath: /memory}
    - {name: host, mountPath: /host}
    - {name: config, mountPath: /config}
    - {name: config, mountPath: /one/file, subPath: renamed}
    - {name: secret, mountPath: /secret}
    - {name: down, mountPath: /down}
    - {name: all, mountPath: /all}
    - {name: local, mountPath: /local}
    - {name: hostpv, mountPath: /hostpv, readOnly: true}
  - name: reader
    image: e2e.test/app:1
    args: [sets, /secret]
    volumeMounts: [{name: secret, mountPath: /secret}]
  volumes:
  - {name: disk, emptyDir: {sizeLimit: 1Gi}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: host, hostPath: {path: "@HOST/plain", type: Directory}}
  - {name: config, configMap: {name: config, defaultMode: 0440, items: [{key: a, path: renamed}]}}
  - {name: secret, secret: {secretName: secret}}
  - {name: down, downwardAPI: {items: [{path: note, fieldRef: {fieldPath: "metadata.annotations['note']"}},
      {path: cpu, resourceFieldRef: {containerName: c, resource: limits.cpu}}]}}
  - name: all
    projected:
      sources:
      - configMap: {name: config, items: [{key: b, path: in/b, mode: 0400}]}
      - secret: {name: absent, optional: true}
      - downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}
      - serviceAccountToken: {path: token, audience: vault, expirationSeconds: 600}
  - {name: local, persistentVolumeClaim: {claimName: local}}
  - {name: hostpv, persistentVolumeClaim: {claimName: host}}
`

// claimed are a persistent volume and a claim of a storage class that it is for. spec
// are fields of the volume's.
func claimed(volume, claim, class string, spec ...string) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: PersistentVolume
metadata: {name: %q}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: %q
  %s
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: %s}
spec: {accessModes: [ReadWriteOnce], storageClassName: %[2]q, resources: {requests: {storage: 1Gi}}}
`, volume, class, strings.Join(spec, "\n  "), claim)
}

// inside runs the test program in the container of a pod.
type inside struct {
	*cluster
	t  *testing.T
	id string
}

// containerID is the engine's ID of a pod's container.
func containerID(p *v1.Pod, name string) string {
	return strings.TrimPrefix(container(p, name).ContainerID, "docker://")
}

func (c *cluster) inside(t *testing.T, p *v1.Pod, name string) *inside {
	return &inside{c, t, containerID(p, name)}
}

func (in *inside) run(args ...string) (int, string) {
	in.t.Helper()
	code, out, err := in.engine.Exec(in.t.Context(), in.id, append([]string{"/test"}, args...)...)
	if err != nil {
		in.t.Fatal(err)
	}
	return code, out
}

// reads expects what a file holds.
func (in *inside) reads(file, want string) {
	in.t.Helper()
	if code, out := in.run("cat", file); code != 0 || out != want {
		in.t.Errorf("%s: read %q with code %d, want %q", file, out, code, want)
	}
}

// stats expects a file's mode and owners.
func (in *inside) stats(file, want string) {
	in.t.Helper()
	if _, out := in.run("stat", file); out != want+"\n" {
		in.t.Errorf("%s has %q, want %q", file, out, want)
	}
}

// writes expects that a file can be written, or else why not.
func (in *inside) writes(file, refusal string) {
	in.t.Helper()
	code, out := in.run("write", file, "written")
	if refusal == "" && code != 0 || refusal != "" && (code == 0 || !strings.Contains(out, refusal)) {
		in.t.Errorf("writing %s: %q with code %d, want %q", file, out, code, refusal)
	}
}

// A real process reads volumes of every kind, writes with the pod's group where
// it may, is refused where it may not, and sees what changes.
func TestVolumes(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "volumes")
	host := t.TempDir()
	for _, dir := range []string{"local", "plain"} {
		if err := os.Mkdir(filepath.Join(host, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(host, dir, "f"), []byte("of the machine"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		c.kubectl(t, "", "delete", "--ignore-not-found", "--wait=false", "pv/"+ns+"-local", "pv/"+ns+"-host", "storageclass/"+ns)
	})
	c.apply(t, ns, strings.NewReplacer("@HOST", host, "@NS", ns).Replace(everyKind+
		claimed("@NS-local", "local", "@NS", `local: {path: "@HOST/local"}`,
			"nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [e2e]}]}]}}")+
		claimed("@NS-host", "host", "", `claimRef: {namespace: "@NS", name: host}`, `hostPath: {path: "@HOST/hostpv", type: DirectoryOrCreate}`)))
	p := c.ready(t, ns, "app=p", 1)[0]
	in := c.inside(t, &p, "c")

	in.reads("/config/renamed", "hello")
	in.reads("/one/file", "hello")
	in.reads("/secret/r", "one")
	in.reads("/down/note", "first")
	in.reads("/all/in/b", "unread")
	in.reads("/all/name", "p")
	in.reads("/host/f", "of the machine")
	in.reads("/local/f", "of the machine")
	in.reads("/var/run/secrets/kubernetes.io/serviceaccount/namespace", ns)
	in.stats("/config/renamed", "440 0 77")
	in.stats("/all/in/b", "440 0 77")
	in.stats("/all/token", "640 1000 77")
	in.stats("/disk", "2777 0 77")
	in.stats("/memory", "2777 0 77")
	in.stats("/local", "2775 0 77")

	for _, file := range []string{"/disk/f", "/sub/f", "/memory/f", "/local/new"} {
		in.writes(file, "")
		in.stats(file, "644 1000 77")
	}
	in.reads("/disk/deep/er/f", "written")
	in.reads("/disk-ro/f", "written")
	const readOnly, denied = "read-only file system", "permission denied"
	for file, refusal := range map[string]string{"/disk-ro/g": readOnly, "/config/g": readOnly, "/config/renamed": readOnly,
		"/one/file": readOnly, "/secret/r": readOnly, "/down/note": readOnly, "/all/token": readOnly, "/hostpv/g": readOnly,
		"/host/g": denied} {
		in.writes(file, refusal)
	}
	if data, err := os.ReadFile(filepath.Join(host, "local/new")); err != nil || string(data) != "written" {
		t.Errorf("the local volume has %q, %v", data, err)
	}

	c.updates(t, ns, &p, in)

	kubelet := c.path("kubelet/pods/" + string(p.UID))
	c.kubectl(t, "", "delete", "pod", "-n", ns, "p")
	c.eventually(t, "the pod's directory is gone", 20*time.Second, func(context.Context) error { return c.nothingLeft(kubelet) })
	for _, file := range []string{"local/f", "local/new", "plain/f"} {
		if _, err := os.Stat(filepath.Join(host, file)); err != nil {
			t.Errorf("what was mounted lost a file: %v", err)
		}
	}
}

// nothingLeft is an error while there is something of a pod below its directory.
func (c *cluster) nothingLeft(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	if strings.Contains(string(mounts), dir) {
		return fmt.Errorf("there are mounts below %s", dir)
	}
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		return fmt.Errorf("%s is still there: %v", dir, err)
	}
	return nil
}

// updates changes a secret many times, and an annotation: the running containers
// see it, and no reader ever sees files of two versions together.
func (c *cluster) updates(t *testing.T, ns string, p *v1.Pod, in *inside) {
	t.Helper()
	const versions = 20
	for i := range versions {
		value := fmt.Sprintf("version %d", i)
		c.kubectl(t, fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"secret"},"stringData":{"r":%q,"s":%q,"t":%q}}`,
			value, value, value), "apply", "-n", ns, "-f", "-")
		began := time.Now()
		c.eventually(t, "the containers see the secret", 10*time.Second, func(context.Context) error {
			if _, out := in.run("cat", "/secret/r"); out != value {
				return fmt.Errorf("read %q", out)
			}
			return nil
		})
		if i == 0 {
			t.Logf("a changed secret was seen after %v", time.Since(began))
		}
	}
	c.kubectl(t, "", "annotate", "pod", "-n", ns, "p", "--overwrite", "note=second")
	c.eventually(t, "the container sees the annotation", 10*time.Second, func(context.Context) error {
		if _, out := in.run("cat", "/down/note"); out != "second" {
			return fmt.Errorf("read %q", out)
		}
		return nil
	})
	// One that is mounted by itself stays as it was when the container started.
	in.reads("/one/file", "hello")
	seen := c.log(t, containerID(p, "reader"))
	if lines := strings.Count(seen, "\n"); lines != versions+1 || strings.Contains(seen, "torn") || !strings.HasPrefix(seen, "one\nversion 0\n") {
		t.Errorf("the reader saw %q", seen)
	}
	now, err := c.kube.CoreV1().Pods(ns).Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil || restarts([]v1.Pod{*now}) != 0 {
		t.Errorf("%v; restarts: %s", err, describe([]v1.Pod{*now}))
	}
}

// The default mount lets a process talk to the API server as the pod.
func TestTokenFromInside(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "token")
	host, port, _ := strings.Cut(c.listen, ":")
	c.apply(t, ns, pod("caller", `"hostNetwork":true,"restartPolicy":"Never",`, fmt.Sprintf(`"args":["whoami"],
		"env":[{"name":"KUBERNETES_SERVICE_HOST","value":%q},{"name":"KUBERNETES_SERVICE_PORT","value":%q}]`, host, port)))
	c.eventually(t, "the process has ended", time.Minute, func(ctx context.Context) error {
		p, err := c.kube.CoreV1().Pods(ns).Get(ctx, "caller", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if p.Status.Phase != v1.PodSucceeded {
			return fmt.Errorf("%s: %s", describe([]v1.Pod{*p}), c.lastLog(p))
		}
		if got, want := c.lastLog(p), ns+" system:serviceaccount:"+ns+":default [caller]\n"; got != want {
			t.Errorf("the API server sees %q, want %q", got, want)
		}
		return nil
	})
}

// lastLog is what a pod's only container has written.
func (c *cluster) lastLog(p *v1.Pod) string {
	var out strings.Builder
	for _, s := range p.Status.ContainerStatuses {
		if id := strings.TrimPrefix(s.ContainerID, "docker://"); id != "" {
			if err := c.engine.Logs(context.Background(), id, &out); err != nil {
				return err.Error()
			}
		}
	}
	return out.String()
}
