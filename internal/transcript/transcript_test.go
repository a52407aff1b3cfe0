package transcript

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestCanonical(t *testing.T) {
	in := []Entry{
		{1999 * time.Millisecond, "pod default/b", "Running"},
		{1001 * time.Millisecond, "pod default/b", "created"},
		{500 * time.Millisecond, "node n", "created"},
		{90*time.Minute + 250*time.Millisecond, "pod default/a", "gone"},
	}
	for _, c := range []struct {
		name  string
		grain time.Duration
		want  string
	}{
		{"seconds", time.Second, "00:00:00  node n  created\n00:00:01  pod default/b  Running\n00:00:01  pod default/b  created\n01:30:00  pod default/a  gone\n"},
		{"tenths", 100 * time.Millisecond, "00:00:00.500  node n  created\n00:00:01  pod default/b  created\n00:00:01.900  pod default/b  Running\n01:30:00.200  pod default/a  gone\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			entries := Canonical(in, c.grain)
			if err := Write(&b, entries); err != nil || b.String() != c.want {
				t.Fatalf("%v, wrote\n%s", err, b.String())
			}
			if again, err := Read(&b); err != nil || !slices.Equal(again, entries) {
				t.Errorf("%v, read again: %v", err, again)
			}
		})
	}
	if _, err := Read(strings.NewReader("00:00:01  pod x  y\nwhat\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a line that is none: %v", err)
	}
}

func TestDiff(t *testing.T) {
	read := func(text string) []Entry {
		entries, err := Read(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return entries
	}
	base := "00:00:01  a  x\n00:00:02  a  y\n00:00:03  b  x\n"
	for _, c := range []struct {
		name, a, b string
		tolerance  time.Duration
		want       string
	}{
		{"equal", base, base, 0, ""},
		{"empty", "", "", 0, ""},
		{"another", base, "00:00:01  a  x\n00:00:02  a  z\n00:00:03  b  x\n", 0,
			"  00:00:01  a  x\n- 00:00:02  a  y\n- 00:00:03  b  x\n+ 00:00:02  a  z\n+ 00:00:03  b  x\n"},
		{"shorter", base, "00:00:01  a  x\n00:00:02  a  y\n", 0,
			"  00:00:01  a  x\n  00:00:02  a  y\n- 00:00:03  b  x\n+ (ends here)\n"},
		{"a second late", base, "00:00:01  a  x\n00:00:03  a  y\n00:00:03  b  x\n", time.Second, ""},
		{"two seconds late", base, "00:00:01  a  x\n00:00:04  a  y\n00:00:03  b  x\n", time.Second, "- 00:00:02  a  y\n+ 00:00:04  a  y\n"},
		{"one less", base, "00:00:01  a  x\n00:00:02  a  y\n", time.Second, "- 00:00:03  b  x\n+ (nothing)\n"},
		{"one more", base, base + "00:00:09  c  x\n", time.Second, "- (nothing)\n+ 00:00:09  c  x\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Diff(read(c.a), read(c.b), c.tolerance); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestRecorder(t *testing.T) {
	pod := func(change func(*v1.Pod)) *v1.Pod {
		p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-5d4f-x7k2p", GenerateName: "web-5d4f-", UID: "1"}}
		p.Spec.NodeName, p.Status.Phase = "n", v1.PodPending
		change(p)
		return p
	}
	node := func(status v1.ConditionStatus, reason string, taints ...v1.Taint) *v1.Node {
		n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "1"}, Spec: v1.NodeSpec{Taints: taints}}
		n.Status.Conditions = []v1.NodeCondition{{Type: v1.NodeReady, Status: status, Reason: reason}}
		return n
	}
	waiting := []v1.ContainerStatus{{Name: "main", RestartCount: 3, State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}
	for _, c := range []struct {
		name        string
		before, now any
		want        []string
	}{
		{"new pod", nil, pod(func(*v1.Pod) {}), []string{"created", "bound on n", "Pending on n"}},
		{"without place", nil, pod(func(*v1.Pod) {}), []string{"created", "bound", "Pending"}},
		{"nothing", pod(func(*v1.Pod) {}), pod(func(p *v1.Pod) { p.Labels = map[string]string{"a": "b"} }), nil},
		{"crash", pod(func(*v1.Pod) {}), pod(func(p *v1.Pod) { p.Status.ContainerStatuses = waiting }),
			[]string{"container main restarts 3 waiting CrashLoopBackOff on n"}},
		{"ready", pod(func(*v1.Pod) {}), pod(func(p *v1.Pod) {
			p.Status.Phase = v1.PodRunning
			p.Status.Conditions = []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue}}
		}), []string{"Running on n", "Ready True on n"}},
		{"deleting", pod(func(*v1.Pod) {}), pod(func(p *v1.Pod) { p.DeletionTimestamp = &metav1.Time{} }), []string{"deleting on n"}},
		{"gone", pod(func(*v1.Pod) {}), nil, []string{"gone"}},
		{"another of the name", pod(func(*v1.Pod) {}), pod(func(p *v1.Pod) { p.UID = "2" }), []string{"created", "bound on n", "Pending on n"}},
		{"node lost", node(v1.ConditionTrue, "KubeletReady"), node(v1.ConditionUnknown, "NodeStatusUnknown", v1.Taint{Key: "k", Effect: v1.TaintEffectNoExecute}),
			[]string{"Ready Unknown NodeStatusUnknown", "taints [k:NoExecute]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := NewRecorder(!strings.HasPrefix(c.name, "without place"))
				time.Sleep(time.Second)
				r.Changed(c.before, c.now)
				var got []string
				for _, e := range r.Entries() {
					if e.At != time.Second || e.Object != "pod default/web-5d4f-*" && e.Object != "node n" {
						t.Errorf("%v", e)
					}
					got = append(got, e.What)
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		})
	}
}
