package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const setUp = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {COLOR: green}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: front}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}}
spec:
  terminationGracePeriodSeconds: 1
  hostname: web
  subdomain: sub
  hostAliases: [{ip: 192.0.2.7, hostnames: [alias, other]}]
  dnsConfig: {searches: [example.org], options: [{name: ndots, value: "2"}]}
  securityContext:
    runAsUser: 1000
    runAsGroup: 3000
    supplementalGroups: [4000]
    seccompProfile: {type: RuntimeDefault}
    sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "80"}]
  containers:
  - name: c
    image: e2e.test/app:1
    command: [/test, print]
    args: ["$(GREETING)|$(COLOR)|$$(COLOR)|$(NONE)|$(CPU)|$(MEMORY)|$(POD_IP)|$(APP)|$(FRONT_SERVICE_PORT)"]
    workingDir: /some/where
    envFrom: [{configMapRef: {name: settings}}]
    env:
    - {name: WHO, value: you}
    - {name: GREETING, value: "hello $(WHO)"}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {containerName: c, resource: requests.memory, divisor: 1Mi}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: APP, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}
    resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 500m, memory: 128Mi}}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}
  - name: tty
    image: e2e.test/app:1
    tty: true
    stdin: true
    securityContext: {runAsUser: 0, seccompProfile: {type: Unconfined}}
---
apiVersion: v1
kind: Pod
metadata: {name: host, labels: {app: host}}
spec:
  terminationGracePeriodSeconds: 1
  hostNetwork: true
  hostPID: true
  hostIPC: true
  dnsPolicy: Default
  containers:
  - {name: c, image: "e2e.test/app:1", args: [stubborn]}
---
apiVersion: v1
kind: Pod
metadata: {name: privileged, labels: {app: privileged}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: "e2e.test/app:1", args: [stubborn], securityContext: {privileged: true}}
---
apiVersion: v1
kind: Pod
metadata: {name: shared, labels: {app: shared}}
spec:
  terminationGracePeriodSeconds: 1
  shareProcessNamespace: true
  dnsPolicy: None
  dnsConfig: {nameservers: [192.0.2.53]}
  containers:
  - name: c
    image: e2e.test/app:1
    resources: {limits: {cpu: 200m, memory: 32Mi}}
`

// holds expects that a file has a line that is, but for its spaces, what is wanted.
func (in *inside) holds(file, want string) {
	in.t.Helper()
	_, out := in.run("cat", file)
	for line := range strings.Lines(out) {
		if strings.Join(strings.Fields(line), " ") == want {
			return
		}
	}
	in.t.Errorf("%s has no line %q:\n%s", file, want, out)
}

// A container's process has what its spec says, as the kernel tells it.
func TestContainerSetup(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "setup")
	c.apply(t, ns, setUp)
	p := c.ready(t, ns, "app=p", 1)[0]
	in := c.inside(t, &p, "c")
	if got, want := c.log(t, in.id), "hello you|green|$(COLOR)|$(NONE)|500|64|"+p.Status.PodIP+"|p|80\n"; got != want {
		t.Errorf("the process was told %q, want %q", got, want)
	}
	for _, line := range []string{"Uid: 1000 1000 1000 1000", "Gid: 3000 3000 3000 3000", "CapBnd: 0000000000000400", "CapEff: 0000000000000000",
		"NoNewPrivs: 1", "Seccomp: 2"} {
		in.holds("/proc/1/status", line)
	}
	if _, out := in.run("id"); out != "1000 3000 [3000 4000]\n" {
		t.Errorf("it runs as %q", out)
	}
	in.reads("/proc/sys/kernel/hostname", "web\n")
	in.reads("/proc/sys/net/ipv4/ip_unprivileged_port_start", "80\n")
	in.reads("/proc/1/oom_score_adj", c.burstableScore(t, 64<<20)+"\n")
	domain := ns + ".svc.cluster.local"
	in.holds("/etc/hosts", p.Status.PodIP+" web.sub."+domain+" web")
	in.holds("/etc/hosts", "192.0.2.7 alias other")
	in.holds("/etc/resolv.conf", "nameserver 10.96.0.10")
	in.holds("/etc/resolv.conf", "search "+domain+" svc.cluster.local cluster.local example.org")
	in.holds("/etc/resolv.conf", "options ndots:2")
	in.writes("/x", "read-only file system")
	c.limited(t, &p, "c", "burstable/pod"+string(p.UID), 102, 50_000, 128<<20)
	logs := c.logs(t, &p, "c")

	in = c.inside(t, &p, "tty")
	in.holds("/proc/1/status", "Seccomp: 0")
	in.holds("/proc/1/status", "Uid: 0 0 0 0")
	if fd, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", c.pid(t, in.id))); err != nil || !strings.HasPrefix(fd, "/dev/pts") && fd != "/0" {
		t.Errorf("its standard input is %q, %v", fd, err)
	}
	c.hostSetup(t, ns)
	c.kubectl(t, "", "delete", "pod", "-n", ns, "p")
	c.eventually(t, "the logs are gone with the pod", 20*time.Second, func(context.Context) error {
		for _, path := range logs {
			if _, err := os.Lstat(path); !os.IsNotExist(err) {
				return fmt.Errorf("%s is there (%v)", path, err)
			}
		}
		return nil
	})
}

// hostSetup checks pods that share the machine's namespaces or their own.
func (c *cluster) hostSetup(t *testing.T, ns string) {
	p := c.ready(t, ns, "app=host", 1)[0]
	in := c.inside(t, &p, "c")
	pid := c.pid(t, in.id)
	for _, namespace := range []string{"net", "pid", "ipc"} {
		own, err := os.Readlink("/proc/self/ns/" + namespace)
		its, itsErr := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, namespace))
		if err != nil || itsErr != nil || own != its {
			t.Errorf("%s namespace %q, the machine's %q (%v, %v)", namespace, its, own, itsErr, err)
		}
	}
	if hostname, err := os.Hostname(); err != nil || p.Status.PodIP != p.Status.HostIP {
		t.Errorf("pod IP %s, host IP %s, %v", p.Status.PodIP, p.Status.HostIP, err)
	} else {
		in.reads("/proc/sys/kernel/hostname", hostname+"\n")
	}
	// Whether it starts depends on what the engine itself is permitted.
	c.eventually(t, "a container is privileged", time.Minute, func(ctx context.Context) error {
		all, err := c.engine.Containers(ctx, "io.kubernetes.pod.namespace="+ns)
		for _, one := range all {
			if one.Labels["io.kubernetes.pod.name"] != "privileged" || one.Labels["io.kubernetes.container.name"] != "c" {
				continue
			}
			is, err := c.engine.Client.ContainerInspect(ctx, one.ID)
			if err == nil && !is.HostConfig.Privileged {
				t.Errorf("%s is not", one.Name)
			}
			return err
		}
		return fmt.Errorf("there is none (%v)", err)
	})

	p = c.ready(t, ns, "app=shared", 1)[0]
	in = c.inside(t, &p, "c")
	in.reads("/proc/1/comm", "pause\n")
	in.reads("/etc/resolv.conf", "nameserver 192.0.2.53\n")
	c.limited(t, &p, "c", "pod"+string(p.UID), 204, 20_000, 32<<20)
}

// pid is a container's first process.
func (c *cluster) pid(t *testing.T, id string) int {
	t.Helper()
	is, err := c.engine.Client.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return is.State.Pid
}

// burstableScore is the OOM score of a container of a burstable pod.
func (c *cluster) burstableScore(t *testing.T, request int64) string {
	t.Helper()
	n, err := c.kube.CoreV1().Nodes().Get(t.Context(), nodeName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return strconv.FormatInt(1000-1000*request/n.Status.Capacity.Memory().Value(), 10)
}

// limited checks a container's cgroups: where they are, and what they allow.
func (c *cluster) limited(t *testing.T, p *v1.Pod, name, parent string, shares, quota, memory int) {
	t.Helper()
	id := containerID(p, name)
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.pid(t, id)))
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]string{}
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		at[parts[1]] = parts[2]
	}
	want := map[string]string{"/sys/fs/cgroup/cpu" + at["cpu"] + "/cpu.shares": strconv.Itoa(shares),
		"/sys/fs/cgroup/cpu" + at["cpu"] + "/cpu.cfs_quota_us":            strconv.Itoa(quota),
		"/sys/fs/cgroup/memory" + at["memory"] + "/memory.limit_in_bytes": strconv.Itoa(memory)}
	where := at["memory"]
	if where == "" {
		// Version 2; the weight is what runc makes of the shares.
		where = at[""]
		dir := "/sys/fs/cgroup" + where
		want = map[string]string{dir + "/cpu.max": strconv.Itoa(quota) + " 100000", dir + "/memory.max": strconv.Itoa(memory)}
	}
	if expected := "/nodelet-e2e/kubepods/" + parent + "/" + id; where != expected {
		t.Errorf("its cgroup is %s, want %s", where, expected)
	}
	for file, value := range want {
		if data, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(data)) != value {
			t.Errorf("%s: %q, %v; want %s", file, data, err, value)
		}
	}
}

// logs checks that a container's log is where tools look for it, is bounded, and
// returns the paths that are to go with the pod.
func (c *cluster) logs(t *testing.T, p *v1.Pod, name string) []string {
	t.Helper()
	id := containerID(p, name)
	dir := c.path("logs/" + p.Namespace + "_" + p.Name + "_" + string(p.UID))
	flat := fmt.Sprintf("/var/log/containers/%s_%s_%s-%s.log", p.Name, p.Namespace, name, id)
	for _, path := range []string{filepath.Join(dir, name, "0.log"), flat} {
		if data, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(data), `{"log":"hello you`) {
			t.Errorf("%s: %q, %v", path, data, err)
		}
	}
	is, err := c.engine.Client.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if log := is.HostConfig.LogConfig; log.Type != "json-file" || log.Config["max-size"] != "3145728" || log.Config["max-file"] != "2" {
		t.Errorf("the log is kept as %+v", log)
	}
	return []string{dir, flat}
}
