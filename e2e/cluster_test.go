package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"nodelet/internal/dockertest"
)

const (
	nodeName  = "e2e"
	testImage = "e2e.test/app:1"
)

// cluster is a control plane with one node, for all tests of this package one
// after the other.
type cluster struct {
	dir    string
	engine *dockertest.Engine
	sim    *process
	agent  *process
	kube   kubernetes.Interface
	// listen is the API server's address, the same after a restart.
	listen string
}

var shared struct {
	once    sync.Once
	cluster *cluster
	err     error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if c := shared.cluster; c != nil {
		c.agent.stop()
		c.sim.stop()
		unmountBelow(c.dir)
		unlinkBelow(c.path("logs"))
		if err := os.RemoveAll(c.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	dockertest.Stop()
	os.Exit(code)
}

// unmountBelow lets go what an agent that was killed has left mounted.
func unmountBelow(dir string) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(mounts)) {
		if at := strings.Fields(line)[1]; strings.HasPrefix(at, dir+"/") {
			_ = syscall.Unmount(at, syscall.MNT_DETACH)
		}
	}
}

// unlinkBelow removes the flat links to logs in a directory.
func unlinkBelow(dir string) {
	links, _ := filepath.Glob("/var/log/containers/*.log")
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, dir+"/") {
			_ = os.Remove(link)
		}
	}
}

// start returns the cluster with the agent running.
func start(t testing.TB) *cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long")
	}
	engine := dockertest.Shared(t)
	shared.once.Do(func() {
		shared.cluster, shared.err = newCluster(t, engine)
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	c := shared.cluster
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the agent's log ends with\n%s", c.agent.logTail())
		}
	})
	c.startAgent(t)
	return c
}

func newCluster(t testing.TB, engine *dockertest.Engine) (*cluster, error) {
	dir, err := os.MkdirTemp("", "nodelet-e2e-")
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, engine: engine, sim: &process{}, agent: &process{}}
	for _, name := range []string{"sim", "agent"} {
		build := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-s -w", "-o", filepath.Join(dir, name), "./cmd/"+name)
		build.Dir = dockertest.Root()
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return c, fmt.Errorf("building %s: %w: %s", name, err, out)
		}
	}
	engine.Load(t, testImage)
	c.listen = "127.0.0.1:0"
	return c, c.startControlPlane()
}

// startControlPlane starts etcd, the API server and the rest, with the data of
// the last time.
func (c *cluster) startControlPlane() error {
	kubeconfig := c.path("kubeconfig")
	_ = os.Remove(kubeconfig)
	err := c.sim.start(c.path("sim.log"), c.path("sim"), "up", "--nodes", "0", "--dir", c.path("etcd"),
		"--listen", c.listen, "--kubeconfig", kubeconfig)
	if err != nil {
		return err
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(kubeconfig); err == nil {
			break
		}
		if c.sim.ended() || time.Now().After(end) {
			return fmt.Errorf("the control plane does not come up: %s", c.sim.logTail())
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	c.listen = strings.TrimPrefix(config.Host, "https://")
	config.QPS, config.Burst = 1000, 1000
	if c.kube, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	return c.writeNodeKubeconfig()
}

// writeNodeKubeconfig writes a kubeconfig with which one is the node.
func (c *cluster) writeNodeKubeconfig() error {
	data, err := os.ReadFile(c.path("kubeconfig"))
	if err != nil {
		return err
	}
	as := "$0\n    as: system:node:" + nodeName + "\n    as-groups: [system:nodes, system:authenticated]"
	data = regexp.MustCompile(`(?m)^  user:$`).ReplaceAll(data, []byte(as))
	return os.WriteFile(c.path("node.kubeconfig"), data, 0o600)
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

// startAgent starts the agent unless it runs.
func (c *cluster) startAgent(t testing.TB, args ...string) {
	t.Helper()
	if !c.agent.ended() {
		return
	}
	c.startProcess(t, append([]string{"--kubeconfig", c.path("node.kubeconfig")}, args...)...)
	c.eventually(t, "the node is Ready", time.Minute, func(ctx context.Context) error {
		if c.agent.ended() {
			t.Fatal("the agent has ended: ", c.agent.logTail())
		}
		n, err := c.kube.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range n.Status.Conditions {
			if condition.Type == v1.NodeReady && condition.Status == v1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("conditions %+v", n.Status.Conditions)
	})
}

// startProcess starts the agent's process with what all of them are given.
func (c *cluster) startProcess(t testing.TB, args ...string) {
	t.Helper()
	config := "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n" +
		"podLogsDir: " + c.path("logs") + "\ncontainerLogMaxSize: 3Mi\ncontainerLogMaxFiles: 2\n"
	if err := os.WriteFile(c.path("config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"--config", c.path("config.yaml"), "--hostname-override", nodeName,
		"--docker-endpoint", c.engine.Endpoint, "--root-dir", c.path("kubelet"), "--healthz-port", "0",
		"--cluster-dns", "10.96.0.10", "--cluster-domain", "cluster.local", "--eviction-hard", "",
		"--cgroup-root", "/nodelet-e2e", "--pod-manifest-path", c.path("manifests"), "--file-check-frequency", "1s"}, args...)
	if err := c.agent.start(c.path("agent.log"), c.path("agent"), args...); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until f returns nil.
func (c *cluster) eventually(t testing.TB, what string, within time.Duration, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("in %v it did not come to this: %s: %v", within, what, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// namespace makes a namespace for a test and removes it at its end, with all
// its pods.
func (c *cluster) namespace(t testing.TB, name string) string {
	t.Helper()
	ns := &v1.Namespace{}
	ns.GenerateName = name + "-"
	made, err := c.kube.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := c.kube.CoreV1().Namespaces().Delete(ctx, made.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("removing the namespace: %v", err)
		}
		zero := int64(0)
		for ctx.Err() == nil {
			_ = c.kube.CoreV1().Pods(made.Name).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &zero}, metav1.ListOptions{})
			// The namespace itself takes some seconds more, which nobody needs.
			list, err := c.kube.CoreV1().Pods(made.Name).List(ctx, metav1.ListOptions{})
			if err == nil && len(list.Items) == 0 {
				left, err := c.engine.Containers(ctx, "io.kubernetes.pod.namespace="+made.Name)
				if err == nil && len(left) == 0 {
					return
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("the pods did not go")
	})
	c.eventually(t, "the namespace has what pods' tokens need", time.Minute, func(ctx context.Context) error {
		_, err := c.kube.CoreV1().ServiceAccounts(made.Name).Get(ctx, "default", metav1.GetOptions{})
		if err == nil {
			_, err = c.kube.CoreV1().ConfigMaps(made.Name).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		}
		return err
	})
	return made.Name
}

// apply applies manifests with kubectl.
func (c *cluster) apply(t testing.TB, namespace, manifests string) {
	t.Helper()
	c.kubectl(t, manifests, "apply", "-n", namespace, "-f", "-")
}

// kubectl runs stock kubectl and returns what it printed.
func (c *cluster) kubectl(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	command := exec.Command("kubectl", append([]string{"--kubeconfig", c.path("kubeconfig")}, args...)...)
	command.Stdin = strings.NewReader(stdin)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// pods lists the pods of a namespace that are not being deleted.
func (c *cluster) pods(ctx context.Context, namespace, selector string) ([]v1.Pod, error) {
	list, err := c.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	var all []v1.Pod
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			all = append(all, p)
		}
	}
	return all, nil
}

// ready waits until so many pods of a namespace are Ready, and returns them.
func (c *cluster) ready(t testing.TB, namespace, selector string, count int) (all []v1.Pod) {
	t.Helper()
	c.eventually(t, fmt.Sprintf("%d pods %s are Ready", count, selector), time.Minute, func(ctx context.Context) (err error) {
		if all, err = c.pods(ctx, namespace, selector); err != nil {
			return err
		}
		ready := 0
		for i := range all {
			if isReady(&all[i]) {
				ready++
			}
		}
		if ready != count || len(all) != count {
			return fmt.Errorf("%d of %d are: %s", ready, len(all), describe(all))
		}
		return nil
	})
	return all
}

func isReady(p *v1.Pod) bool {
	for _, condition := range p.Status.Conditions {
		if condition.Type == v1.PodReady {
			return condition.Status == v1.ConditionTrue
		}
	}
	return false
}

// describe is what pods look like, in short.
func describe(pods []v1.Pod) string {
	var s []string
	for i := range pods {
		statuses, err := json.Marshal(pods[i].Status.ContainerStatuses)
		if err != nil {
			return err.Error()
		}
		s = append(s, fmt.Sprintf("%s %s %s %s", pods[i].Name, pods[i].Status.Phase, pods[i].Status.Reason, statuses))
	}
	return strings.Join(s, "\n")
}

// process is a program that runs beside the test.
type process struct {
	command *exec.Cmd
	log     string
	done    chan struct{}
}

func (p *process) start(log, program string, args ...string) error {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	p.log, p.done = log, make(chan struct{})
	p.command = exec.Command(program, args...)
	p.command.Stdout, p.command.Stderr = f, f
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		return err
	}
	go func(command *exec.Cmd, done chan struct{}) {
		_ = command.Wait()
		close(done)
	}(p.command, p.done)
	return nil
}

func (p *process) ended() bool {
	if p.command == nil {
		return true
	}
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends a signal and, where it ends the program, waits for its end.
func (p *process) signal(s syscall.Signal) {
	if p.ended() {
		return
	}
	_ = p.command.Process.Signal(s)
	if s == syscall.SIGKILL || s == syscall.SIGTERM {
		<-p.done
	}
}

func (p *process) stop() { p.signal(syscall.SIGTERM) }
func (p *process) kill() { p.signal(syscall.SIGKILL) }

func (p *process) logTail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	const shown = 4000
	return string(data[max(0, len(data)-shown):])
}
