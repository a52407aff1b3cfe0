package transcript

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
)

// Recorder gathers what happens to pods and nodes. Its methods may be called
// concurrently.
type Recorder struct {
	// places: tell on which node a pod is. Among equal nodes the scheduler throws
	// dice.
	places bool
	began  time.Time

	mu      sync.Mutex
	entries []Entry
}

// NewRecorder returns a recorder whose time begins now.
func NewRecorder(places bool) *Recorder { return &Recorder{places: places, began: time.Now()} }

// Entries are what was recorded, in order.
func (r *Recorder) Entries() []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.entries)
}

func (r *Recorder) add(object string, what []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range what {
		r.entries = append(r.entries, Entry{time.Since(r.began), object, w})
	}
}

// Changed records how a pod or node became what it is; before is nil for a new
// one, now for one that is gone. Other kinds are left out.
func (r *Recorder) Changed(before, now any) {
	switch now := now.(type) {
	case *v1.Pod:
		old, _ := before.(*v1.Pod)
		r.add(podName(now), r.podChanges(old, now))
	case *v1.Node:
		old, _ := before.(*v1.Node)
		r.add("node "+now.Name, nodeChanges(old, now))
	case nil:
		switch old := before.(type) {
		case *v1.Pod:
			r.add(podName(old), []string{"gone"})
		case *v1.Node:
			r.add("node "+old.Name, []string{"gone"})
		}
	}
}

// podName leaves out a suffix that the API server has rolled.
func podName(p *v1.Pod) string {
	name := p.Name
	if p.GenerateName != "" && strings.HasPrefix(name, p.GenerateName) {
		name = p.GenerateName + "*"
	}
	return "pod " + p.Namespace + "/" + name
}

func (r *Recorder) podChanges(old, now *v1.Pod) []string {
	var all []string
	if old == nil || old.UID != now.UID {
		old = &v1.Pod{}
		all = append(all, "created")
	}
	on := ""
	if r.places && now.Spec.NodeName != "" {
		on = " on " + now.Spec.NodeName
	}
	if now.Spec.NodeName != old.Spec.NodeName {
		all = append(all, "bound"+on)
	}
	if now.Status.Phase != old.Status.Phase {
		all = append(all, join(string(now.Status.Phase), now.Status.Reason)+on)
	}
	was, is := podReady(old), podReady(now)
	if was != is {
		all = append(all, is+on)
	}
	for _, list := range []struct{ old, now []v1.ContainerStatus }{
		{old.Status.InitContainerStatuses, now.Status.InitContainerStatuses},
		{old.Status.ContainerStatuses, now.Status.ContainerStatuses}} {
		for i := range list.now {
			c := containerState(&list.now[i])
			j := slices.IndexFunc(list.old, func(o v1.ContainerStatus) bool { return o.Name == list.now[i].Name })
			if j < 0 || containerState(&list.old[j]) != c {
				all = append(all, c+on)
			}
		}
	}
	if now.DeletionTimestamp != nil && old.DeletionTimestamp == nil {
		all = append(all, "deleting"+on)
	}
	return all
}

func podReady(p *v1.Pod) string {
	for _, c := range p.Status.Conditions {
		if c.Type == v1.PodReady {
			return condition(string(c.Type), c.Status, c.Reason)
		}
	}
	return ""
}

func containerState(c *v1.ContainerStatus) string {
	what := fmt.Sprintf("container %s restarts %d ", c.Name, c.RestartCount)
	switch s := c.State; {
	case s.Running != nil:
		return what + "running"
	case s.Terminated != nil:
		return what + fmt.Sprintf("terminated %s %d", s.Terminated.Reason, s.Terminated.ExitCode)
	case s.Waiting != nil:
		return what + "waiting " + s.Waiting.Reason
	}
	return what + "unknown"
}

func nodeChanges(old, now *v1.Node) []string {
	var all []string
	if old == nil || old.UID != now.UID {
		old = &v1.Node{}
		all = append(all, "created")
	}
	if is := nodeReady(now); is != nodeReady(old) {
		all = append(all, is)
	}
	if is := taints(now); is != taints(old) {
		all = append(all, "taints ["+is+"]")
	}
	return all
}

func nodeReady(n *v1.Node) string {
	for _, c := range n.Status.Conditions {
		if c.Type == v1.NodeReady {
			return condition(string(c.Type), c.Status, c.Reason)
		}
	}
	return ""
}

func taints(n *v1.Node) string {
	var all []string
	for _, t := range n.Spec.Taints {
		all = append(all, t.Key+":"+string(t.Effect))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func condition(kind string, status v1.ConditionStatus, reason string) string {
	return join(kind+" "+string(status), reason)
}

func join(what, reason string) string {
	if reason == "" {
		return what
	}
	return what + " " + reason
}
