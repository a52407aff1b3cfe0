package admit

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"nodelet/agent/pod"
)

func node() *v1.Node {
	return &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"zone": "a"}},
		Spec: v1.NodeSpec{Taints: []v1.Taint{{Key: "out", Effect: v1.TaintEffectNoExecute},
			{Key: "busy", Effect: v1.TaintEffectNoSchedule}}},
		Status: v1.NodeStatus{Allocatable: v1.ResourceList{
			v1.ResourcePods: resource.MustParse("3"), v1.ResourceCPU: resource.MustParse("2"),
			v1.ResourceMemory: resource.MustParse("1Gi"), "example.com/gpu": resource.MustParse("1")}},
	}
}

const tolerant = "tolerations: [{key: out, operator: Exists}]\n"

func spec(t *testing.T, text string) *v1.Pod {
	t.Helper()
	p := &v1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(text), &p.Spec); err != nil {
		t.Fatal(err)
	}
	return p
}

func asks(requests string) string {
	return tolerant + "containers: [{name: a, resources: {requests: {" + requests + "}}}]"
}

func TestPod(t *testing.T) {
	for _, test := range []struct {
		name    string
		active  []string
		pod     string
		change  func(*v1.Pod)
		reason  string
		message string
	}{
		{name: "fits", pod: asks("cpu: 2, memory: 1Gi")},
		{name: "pods", active: []string{tolerant, tolerant, tolerant}, pod: tolerant, reason: "OutOfpods",
			message: "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"},
		{name: "cpu", active: []string{asks("cpu: 1500m")}, pod: asks("cpu: 600m"), reason: "OutOfcpu",
			message: "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"},
		{name: "memory", pod: asks("memory: 2Gi"), reason: "OutOfmemory",
			message: "Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824"},
		{name: "ephemeral storage that the node has none of", pod: asks("ephemeral-storage: 1"), reason: "OutOfephemeral-storage"},
		{name: "extended", active: []string{asks("example.com/gpu: 1")}, pod: asks("example.com/gpu: 1"), reason: "OutOfexample.com/gpu"},
		{name: "extended and unknown", pod: asks("example.com/other: 1")},
		{name: "huge pages that the node has none of", pod: asks("hugepages-2Mi: 2Mi"), reason: "OutOfhugepages-2Mi"},
		{name: "resource that is not counted on nodes", pod: asks("storage: 2Mi")},
		{name: "pods before resources", active: []string{tolerant, tolerant, tolerant}, pod: asks("cpu: 5"), reason: "OutOfpods"},
		{name: "cpu before memory", pod: asks("memory: 5Gi, cpu: 5"), reason: "OutOfcpu"},
		{name: "memory before extended", pod: asks("example.com/gpu: 5, memory: 5Gi"), reason: "OutOfmemory"},
		{name: "resources before affinity", pod: asks("cpu: 5") + "\nnodeSelector: {zone: b}", reason: "OutOfcpu"},
		{name: "the largest init container", pod: tolerant + "initContainers: [{name: i, resources: {requests: {cpu: 3}}}]\n" +
			"containers: [{name: a, resources: {requests: {cpu: 1}}}]", reason: "OutOfcpu",
			message: "Node didn't have enough resource: cpu, requested: 3000, used: 0, capacity: 2000"},
		{name: "overhead", pod: asks("cpu: 2") + "\noverhead: {cpu: 1m}", reason: "OutOfcpu",
			message: "Node didn't have enough resource: cpu, requested: 2001, used: 0, capacity: 2000"},
		{name: "of the pod as a whole", pod: asks("cpu: 1") + "\nresources: {requests: {cpu: 3}}", reason: "OutOfcpu",
			message: "Node didn't have enough resource: cpu, requested: 3000, used: 0, capacity: 2000"},
		{name: "no request", active: []string{asks("cpu: 2")}, pod: tolerant},
		{name: "selector", pod: tolerant + "nodeSelector: {zone: b}", reason: "NodeAffinity",
			message: "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"},
		{name: "affinity", pod: tolerant + "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: " +
			"{nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [m]}]}]}}}", reason: "NodeAffinity"},
		{name: "affinity that fits", pod: tolerant + "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: " +
			"{nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a]}]}]}}}"},
		{name: "another node", pod: tolerant + "nodeName: m", reason: "NodeName"},
		{name: "port", active: []string{tolerant + "containers: [{name: a, ports: [{hostPort: 80}]}]"},
			pod: tolerant + "containers: [{name: a, ports: [{hostPort: 80, hostIP: 10.0.0.1}]}]", reason: "NodePorts"},
		{name: "port of another protocol", active: []string{tolerant + "containers: [{name: a, ports: [{hostPort: 80}]}]"},
			pod: tolerant + "containers: [{name: a, ports: [{hostPort: 80, protocol: UDP}]}]"},
		{name: "port of an init container that ends", active: []string{tolerant + "containers: [{name: a, ports: [{hostPort: 80}]}]"},
			pod: tolerant + "initContainers: [{name: a, ports: [{hostPort: 80}]}]"},
		{name: "port of a sidecar", active: []string{tolerant + "containers: [{name: a, ports: [{hostPort: 80}]}]"},
			pod: tolerant + "initContainers: [{name: a, restartPolicy: Always, ports: [{hostPort: 80}]}]", reason: "NodePorts",
			message: "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"},
		{name: "port of another address", active: []string{tolerant + "containers: [{name: a, ports: [{hostPort: 80, hostIP: 10.0.0.2}]}]"},
			pod: tolerant + "containers: [{name: a, ports: [{hostPort: 80, hostIP: 10.0.0.1}]}]"},
		{name: "strict groups", pod: tolerant + "securityContext: {supplementalGroupsPolicy: Strict}",
			reason: "SupplementalGroupsPolicyNotSupported", message: "SupplementalGroupsPolicy=Strict is not supported in this node"},
		{name: "merged groups", pod: tolerant + "securityContext: {supplementalGroupsPolicy: Merge}"},
		{name: "taint", pod: "{}", reason: "TaintToleration",
			message: "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"},
		{name: "static pods tolerate", pod: "{}",
			change: func(p *v1.Pod) { p.Annotations = map[string]string{pod.AnnotationSource: "file"} }},
		{name: "os", pod: tolerant + "os: {name: windows}", reason: "PodOSNotSupported"},
		{name: "os label", pod: tolerant, change: func(p *v1.Pod) { p.Labels = map[string]string{v1.LabelOSStable: "windows"} },
			reason: "PodOSSelectorNodeLabelDoesNotMatch"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var active []*v1.Pod
			for _, a := range test.active {
				active = append(active, spec(t, a))
			}
			p := spec(t, test.pod)
			if test.change != nil {
				test.change(p)
			}
			r := Pod(node(), active, p)
			switch {
			case r == nil && test.reason != "":
				t.Errorf("admitted, want %s", test.reason)
			case r != nil && (r.Reason != test.reason || test.message != "" && r.Message != test.message):
				t.Errorf("%s: %s\nwant %s: %s", r.Reason, r.Message, test.reason, test.message)
			}
		})
	}
	if r := Pod(nil, nil, &v1.Pod{}); r == nil || r.Reason != "InvalidNodeInfo" {
		t.Errorf("without a node: %v", r)
	}
}

func FuzzPod(f *testing.F) {
	f.Add([]byte(asks("cpu: 1")), []byte("containers: [{name: a, ports: [{hostPort: 80}]}]"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		p, q := &v1.Pod{}, &v1.Pod{}
		if yaml.Unmarshal(a, &p.Spec) != nil || yaml.Unmarshal(b, &q.Spec) != nil {
			return
		}
		Pod(node(), []*v1.Pod{q}, p)
	})
}
