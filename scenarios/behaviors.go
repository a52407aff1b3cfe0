package scenarios

import (
	"path"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"nodelet/fakeruntime"
)

// matcher is a PodMatch ready for use.
type matcher struct {
	namespace, name, node string
	selector              labels.Selector
}

// compile is for a PodMatch that was validated.
func (m PodMatch) compile() matcher {
	selector, err := labels.Parse(m.Selector)
	if err != nil {
		selector = labels.Nothing()
	}
	return matcher{m.Namespace, m.Name, m.Node, selector}
}

func (m matcher) matches(p *v1.Pod) bool {
	if m.namespace != "" && m.namespace != p.Namespace {
		return false
	}
	return fits(m.name, p.Name) && fits(m.node, p.Spec.NodeName) && m.selector.Matches(labels.Set(p.Labels))
}

// fits reports whether a pattern that was validated stands for a name.
func fits(pattern, name string) bool {
	ok, _ := path.Match(pattern, name)
	return ok || pattern == ""
}

// Script makes a script of behaviours that were validated: the first that
// matches a container says what it does, in what it leaves out the default
// holds.
func Script(list []Behavior) fakeruntime.Script {
	matchers := make([]matcher, len(list))
	for i := range list {
		matchers[i] = list[i].Pods.compile()
	}
	return func(p *v1.Pod, c *v1.Container, attempt uint32) fakeruntime.Behavior {
		for i := range list {
			b := &list[i]
			if b.Container != "" && b.Container != c.Name || b.Attempts > 0 && attempt >= b.Attempts {
				continue
			}
			if matchers[i].matches(p) {
				return b.over(fakeruntime.DefaultScript(p, c, attempt))
			}
		}
		return fakeruntime.DefaultScript(p, c, attempt)
	}
}

// over returns a default behaviour with what the file says in its place.
func (b *Behavior) over(out fakeruntime.Behavior) fakeruntime.Behavior {
	for _, set := range []struct {
		to   *fakeruntime.Latency
		from Range
	}{
		{&out.Sandbox, b.Sandbox}, {&out.Pull, b.Pull}, {&out.Create, b.Create}, {&out.Start, b.Start},
		{&out.Stop, b.Stop}, {&out.ReadyAfter, b.ReadyAfter},
	} {
		if set.from.Max > 0 {
			*set.to = fakeruntime.Latency(set.from)
		}
	}
	out.PullError, out.CreateError, out.StartError = b.PullError, b.CreateError, b.StartError
	if b.Exits != nil {
		out.Exits = true
		out.ExitAfter = fakeruntime.Latency(b.Exits.After)
		out.ExitCode = b.Exits.Code
		out.TerminationMessage = b.Exits.Message
	}
	if b.OOMAfter.Duration > 0 {
		// It does not end by itself before that unless the file says so.
		out.OOMAfter, out.Exits = b.OOMAfter.Duration, b.Exits != nil
	}
	out.IgnoreSIGTERM = b.IgnoreSIGTERM
	out.UnreadyAfter, out.UnreadyFor = b.UnreadyAfter.Duration, b.UnreadyFor.Duration
	out.FailLivenessAfter = b.FailLivenessAfter.Duration
	if !b.CPU.IsZero() {
		out.CPU = b.CPU.Quantity
	}
	if !b.Memory.IsZero() {
		out.Memory = b.Memory.Quantity
	}
	for _, w := range b.Writes {
		out.Writes = append(out.Writes, fakeruntime.Write{Volume: w.Volume, Size: w.Size.Quantity, After: w.After.Duration})
	}
	out.Logs = b.Logs
	return out
}
