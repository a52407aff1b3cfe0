package scenarios

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/fakeruntime"
)

func TestScript(t *testing.T) {
	all, err := Decode("s.yaml", []byte(head+`behaviors:
- pods: {selector: app=web}
  container: side
  readyAfter: 9s
- pods: {selector: app=web}
  attempts: 2
  pull: 1s-3s
  pullError: gone
  exits: {after: 5s, code: 3, message: bad}
  oomAfter: 7s
  ignoreSIGTERM: true
  unreadyAfter: 1m
  unreadyFor: 2s
  failLivenessAfter: 3m
  cpu: 250m
  memory: 1Gi
  writes: [{volume: data, size: 20Mi, after: 6s}]
  logs: [hello]
- pods: {selector: app=web}
  start: 4s
- pods: {namespace: other, name: "job-*"}
  startError: no
- pods: {node: "edge-*"}
  createError: edge
- pods: {selector: app=hungry}
  oomAfter: 1m
`+oneStep))
	if err != nil {
		t.Fatal(err)
	}
	script := Script(all[0].Behaviors)
	standard := fakeruntime.DefaultBehavior()
	pod := func(namespace, name, app, node string) *v1.Pod {
		return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": app}},
			Spec: v1.PodSpec{NodeName: node}}
	}
	webPod := pod("default", "web-1", "web", "a-0000")
	first := script(webPod, &v1.Container{Name: "main"}, 1)
	want := standard
	want.Pull = fakeruntime.Latency{Min: time.Second, Max: 3 * time.Second}
	want.PullError = "gone"
	want.Exits, want.ExitAfter, want.ExitCode, want.TerminationMessage = true, fakeruntime.Latency{Min: 5 * time.Second, Max: 5 * time.Second}, 3, "bad"
	want.OOMAfter, want.IgnoreSIGTERM = 7*time.Second, true
	want.UnreadyAfter, want.UnreadyFor, want.FailLivenessAfter = time.Minute, 2*time.Second, 3*time.Minute
	want.Logs = []string{"hello"}
	want.Writes = []fakeruntime.Write{{Volume: "data", Size: resource.MustParse("20Mi"), After: 6 * time.Second}}
	if first.CPU.String() != "250m" || first.Memory.String() != "1Gi" {
		t.Errorf("CPU %v, memory %v", first.CPU, first.Memory)
	}
	want.CPU, want.Memory = first.CPU, first.Memory
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("behavior (-want +got):\n%s", diff)
	}
	job := pod("default", "x", "hungry", "")
	job.Spec.RestartPolicy = v1.RestartPolicyNever
	for _, test := range []struct {
		name      string
		pod       *v1.Pod
		container string
		attempt   uint32
		got       func(fakeruntime.Behavior) bool
	}{
		{"the first that matches", webPod, "side", 0, func(b fakeruntime.Behavior) bool { return b.ReadyAfter.Min == 9*time.Second && !b.Exits }},
		{"after its attempts, the next", webPod, "main", 2, func(b fakeruntime.Behavior) bool { return b.Start.Min == 4*time.Second && !b.Exits }},
		{"by name", pod("other", "job-7", "", ""), "main", 0, func(b fakeruntime.Behavior) bool { return b.StartError == "no" }},
		{"another namespace", pod("default", "job-7", "", ""), "main", 0, func(b fakeruntime.Behavior) bool { return b.StartError == "" }},
		{"by node", pod("default", "x", "", "edge-0003"), "main", 0, func(b fakeruntime.Behavior) bool { return b.CreateError == "edge" }},
		{"a job's own end is not before that of its memory", job, "main", 0, func(b fakeruntime.Behavior) bool { return b.OOMAfter == time.Minute && !b.Exits }},
		{"none", pod("default", "x", "", "core-0003"), "main", 0, func(b fakeruntime.Behavior) bool { return cmp.Diff(b, standard) == "" }},
	} {
		if b := script(test.pod, &v1.Container{Name: test.container}, test.attempt); !test.got(b) {
			t.Errorf("%s: got %+v", test.name, b)
		}
	}
}
