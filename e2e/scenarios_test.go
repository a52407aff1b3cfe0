package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"nodelet/fakeruntime"
	"nodelet/internal/dockertest"
	"nodelet/scenarios"
)

// TestScenarios plays scenarios of the catalogue with real containers: their steps
// and expectations as they are, and processes that do what the behaviors say.
func TestScenarios(t *testing.T) {
	c := start(t)
	for _, name := range []string{"probes", "init-and-sidecars", "ends", "in-place", "conditions"} {
		t.Run(name, func(t *testing.T) {
			d := &onDocker{cluster: c, t: t, dir: t.TempDir()}
			s := d.read(name)
			t.Cleanup(d.cleanUp)
			result, err := scenarios.Play(t.Context(), s, d, scenarios.Hooks{})
			if err != nil {
				t.Fatal(err)
			}
			if err := result.Err(); err != nil {
				t.Error(err)
				for i, step := range result.Steps {
					t.Logf("%d %s: %v in %v", i, step.Name, step.Err, step.Took)
				}
			}
		})
	}
}

// onDocker is the cluster of one real node that a scenario is played on.
type onDocker struct {
	*cluster
	t *testing.T
	// dir has the behaviours of each pod's containers, in files that these read.
	dir  string
	pods []*v1.Pod
}

// images finds the repositories of a scenario's images; none of them is there.
var images = regexp.MustCompile(`image: "?(example\.com/[a-z-]+(:[a-z0-9]+)?)`)

// read reads a scenario, so that it is about this node and about containers of the
// test program. Images get names under which the engine looks for them in vain,
// where they are not loaded.
func (d *onDocker) read(name string) *scenarios.Scenario {
	d.t.Helper()
	file := filepath.Join(dockertest.Root(), "scenarios", name+".yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		d.t.Fatal(err)
	}
	text := string(data)
	for _, found := range images.FindAllStringSubmatch(string(data), -1) {
		repository, _, _ := strings.Cut(found[1], ":")
		image := strings.Replace(found[1], "example.com", "127.0.0.1:1", 1)
		text = strings.ReplaceAll(text, repository, strings.Replace(repository, "example.com", "127.0.0.1:1", 1))
		if !strings.HasSuffix(image, ":typo") {
			d.engine.Load(d.t, image)
		}
	}
	all, err := scenarios.Decode(file, []byte(text))
	if err != nil {
		d.t.Fatal(err)
	}
	all[0].Nodes = nil
	for i := range all[0].Steps {
		switch step := &all[0].Steps[i]; {
		case step.Apply != nil:
			for _, object := range step.Apply.Objects {
				if object["kind"] == "Pod" {
					d.embody(object, scenarios.Script(all[0].Behaviors))
				}
			}
		case step.KillNodes != nil:
			step.KillNodes.Names = []string{nodeName}
		case step.Patch != nil && step.Patch.Kind == "Node":
			step.Patch.Name = nodeName
		}
	}
	return all[0]
}

// embody has a pod's containers do by the test program what the scenario says.
func (d *onDocker) embody(object scenarios.Object, script fakeruntime.Script) {
	d.t.Helper()
	p := &v1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object, p); err != nil {
		d.t.Fatal(err)
	}
	d.pods = append(d.pods, p.DeepCopy())
	kind := v1.HostPathDirectoryOrCreate
	p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: "behavior", VolumeSource: v1.VolumeSource{
		HostPath: &v1.HostPathVolumeSource{Path: filepath.Join(d.dir, p.Name), Type: &kind}}})
	for i, c := range containersOf(p) {
		port := 8100 + 10*i
		if script(p, c, 0).OOMAfter > 0 {
			// So that it is killed before it has eaten up the machine.
			c.Resources.Limits = v1.ResourceList{v1.ResourceMemory: resource.MustParse("32Mi")}
		}
		c.ImagePullPolicy = v1.PullIfNotPresent
		c.VolumeMounts = append(c.VolumeMounts, v1.VolumeMount{Name: "behavior", MountPath: "/behavior"})
		c.Args = []string{"behave", "/behavior/" + c.Name, fmt.Sprint(port)}
		for _, probe := range []struct {
			kind string
			*v1.Probe
		}{{"liveness", c.LivenessProbe}, {"readiness", c.ReadinessProbe}, {"startup", c.StartupProbe}} {
			if probe.Probe != nil {
				c.Args = append(c.Args, probe.kind+"="+aim(&probe.ProbeHandler, port))
				port++
			}
		}
	}
	made, err := runtime.DefaultUnstructuredConverter.ToUnstructured(p)
	if err != nil {
		d.t.Fatal(err)
	}
	delete(made, "status")
	clear(object)
	maps.Copy(object, made)
}

func containersOf(p *v1.Pod) (all []*v1.Container) {
	for i := range p.Spec.InitContainers {
		all = append(all, &p.Spec.InitContainers[i])
	}
	for i := range p.Spec.Containers {
		all = append(all, &p.Spec.Containers[i])
	}
	return all
}

// aim has a probe ask where the test program answers, and returns how it asks.
func aim(h *v1.ProbeHandler, port int) string {
	switch {
	case h.HTTPGet != nil:
		h.HTTPGet.Port = intstr.FromInt(port)
		return "http"
	case h.TCPSocket != nil:
		h.TCPSocket.Port = intstr.FromInt(port)
		return "tcp"
	case h.GRPC != nil:
		h.GRPC.Port = int32(port)
		return "grpc"
	}
	h.Exec.Command = []string{"/test", "check", fmt.Sprintf("http://127.0.0.1:%d", port)}
	return "exec"
}

// incarnations is of how many the behaviours may differ.
const incarnations = 4

// SetScript implements scenarios.Cluster.
func (d *onDocker) SetScript(script fakeruntime.Script) {
	for _, p := range d.pods {
		dir := filepath.Join(d.dir, p.Name)
		if err := os.MkdirAll(dir, 0o777); err != nil {
			d.t.Error(err)
		}
		for _, c := range containersOf(p) {
			var all []fakeruntime.Behavior
			for attempt := range incarnations {
				all = append(all, script(p, c, uint32(attempt)))
			}
			data, err := json.Marshal(all)
			if err != nil {
				d.t.Error(err)
			}
			file := filepath.Join(dir, c.Name)
			if err := os.WriteFile(file+".new", data, 0o644); err != nil {
				d.t.Error(err)
			}
			if err := os.Rename(file+".new", file); err != nil {
				d.t.Error(err)
			}
		}
	}
}

// RESTConfig implements scenarios.Cluster.
func (d *onDocker) RESTConfig() *rest.Config {
	config, err := clientcmd.BuildConfigFromFlags("", d.path("kubeconfig"))
	if err != nil {
		d.t.Fatal(err)
	}
	config.QPS, config.Burst = 1000, 1000
	return config
}

// AddNodes implements scenarios.Cluster.
func (d *onDocker) AddNodes(context.Context, scenarios.NodeGroup) error {
	return errors.New("there is one node")
}

// KillNode implements scenarios.Cluster.
func (d *onDocker) KillNode(name, fault string) error {
	if name != nodeName || fault != "agent" {
		return fmt.Errorf("node %s cannot have the fault %s", name, fault)
	}
	d.agent.kill()
	return nil
}

// RestoreNode implements scenarios.Cluster.
func (d *onDocker) RestoreNode(string) error {
	d.startAgent(d.t)
	return nil
}

// cleanUp removes what a scenario has made in the namespace default.
func (d *onDocker) cleanUp() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const ns = metav1.NamespaceDefault
	_, err := d.kube.CoreV1().Nodes().Patch(ctx, nodeName, types.MergePatchType, []byte(`{"spec":{"taints":null}}`), metav1.PatchOptions{})
	if err != nil {
		d.t.Error(err)
	}
	for _, p := range d.pods {
		_, _ = d.kube.CoreV1().Pods(ns).Patch(ctx, p.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		zero := int64(0)
		_ = d.kube.CoreV1().Pods(ns).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
	}
	_ = d.kube.CoreV1().Services(ns).Delete(ctx, "web", metav1.DeleteOptions{})
	for ctx.Err() == nil {
		if left, err := d.engine.Containers(ctx, "io.kubernetes.pod.namespace="+ns); err == nil && len(left) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	d.t.Error("the pods did not go")
}
