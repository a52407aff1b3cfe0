package admit

import (
	"fmt"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestPreempt(t *testing.T) {
	const critical, burst = "priority: 2000000000\n", "cpu: 500m, memory: 100Mi"
	pods := func(specs ...string) (all []*v1.Pod) {
		for i, s := range specs {
			p := spec(t, s)
			p.UID = types.UID(fmt.Sprint(i))
			all = append(all, p)
		}
		return all
	}
	guaranteed := tolerant + "containers: [{name: a, resources: {requests: {cpu: 500m, memory: 10Mi}, limits: {cpu: 500m, memory: 10Mi}}}]"
	for _, test := range []struct {
		name   string
		active []*v1.Pod
		pod    string
		reason string
		want   string
	}{
		{"there is room", pods(asks("cpu: 1")), critical + asks("cpu: 1"), "", ""},
		{"not critical", pods(asks("cpu: 2")), asks("cpu: 1"), "OutOfcpu", "[]"},
		{"one is enough", pods(asks("cpu: 300m"), asks("cpu: 1"), asks("cpu: 700m")), critical + asks("cpu: 100m"), "OutOfpods", "[0]"},
		{"the nearest", pods(asks("cpu: 300m"), asks("cpu: 1700m")), critical + asks("cpu: 200m"), "OutOfcpu", "[0]"},
		{"guaranteed ones last", pods(guaranteed, asks("cpu: 1500m")), critical + asks("cpu: 500m"), "OutOfcpu", "[1]"},
		{"and also them", pods(guaranteed, asks("cpu: 1500m")), critical + asks("cpu: 2"), "OutOfcpu", "[1 0]"},
		{"critical ones stay", pods(critical+asks("cpu: 1500m"), asks("cpu: 500m")), critical + asks("cpu: 1"), "OutOfcpu", "[]"},
		{"but for more critical ones", pods(critical + asks("cpu: 2")), "priority: 2000001000\n" + asks("cpu: 1"), "OutOfcpu", "[0]"},
		{"it would not help", pods(asks("cpu: 1")), critical + asks("cpu: 3"), "OutOfcpu", "[]"},
		{"nor here", pods(asks("cpu: 2")), critical + "nodeSelector: {zone: b}\n" + asks("cpu: 1"), "NodeAffinity", "[]"},
		{"several resources", pods(asks(burst), asks("cpu: 1500m, memory: 900Mi")), critical + asks("cpu: 400m, memory: 200Mi"), "OutOfcpu", "[1]"},
		{"those that ask for nothing", pods(tolerant+"containers: [{name: a}]", asks("cpu: 1"), guaranteed), critical + asks("cpu: 100m"), "OutOfpods", "[0]"},
	} {
		r := Pod(node(), test.active, spec(t, test.pod))
		switch {
		case r == nil && test.reason != "":
			t.Errorf("%s: admitted, want %s", test.name, test.reason)
		case r != nil && (r.Reason != test.reason || fmt.Sprint(r.Preempt) != test.want):
			t.Errorf("%s: %s, preempt %v, want %s, %s", test.name, r.Reason, r.Preempt, test.reason, test.want)
		}
	}
}
