package scenarios

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	defaultTimeout = 10 * time.Minute
	defaultWithin  = 30 * time.Second
)

// setDefaults fills in what was left out.
func (s *Scenario) setDefaults() {
	if s.Timeout.Duration == 0 {
		s.Timeout.Duration = defaultTimeout
	}
	s.TimeGiven = s.Time != ""
	if !s.TimeGiven {
		s.Time = VirtualTime
	}
	if s.APILoad == "" {
		s.APILoad = "faithful"
	}
	for i := range s.Steps {
		step := &s.Steps[i]
		if e := step.Expect; e != nil && e.Within.Duration == 0 {
			e.Within.Duration = defaultWithin
		}
		if k := step.KillNodes; k != nil {
			k.Count = cmp.Or(k.Count, 1)
			k.Fault = cmp.Or(k.Fault, "power")
		}
		if p := step.Patch; p != nil && p.Type == "" {
			p.Type = "merge"
		}
	}
}

// checker collects what is wrong with a scenario.
type checker struct {
	s      *Scenario
	faults Faults
	// nodes is how many nodes each group comes to in the course of the scenario.
	nodeCounts map[string]int
}

// validate returns everything that is wrong with a decoded scenario.
func (s *Scenario) validate() Faults {
	c := &checker{s: s}
	c.oneOf("apiVersion", s.APIVersion, APIVersion)
	c.oneOf("kind", s.Kind, Kind)
	c.name("name", s.Name)
	c.oneOf("time", string(s.Time), string(RealTime), string(VirtualTime))
	c.oneOf("apiLoad", s.APILoad, "faithful", "shared")
	if s.Start != "" {
		if _, err := time.Parse(time.RFC3339, s.Start); err != nil {
			c.fault("start", "%q: must be a date such as 2026-03-01T00:00:00Z", s.Start)
		}
	}
	names := map[string]bool{}
	for i := range s.Nodes {
		at := fmt.Sprintf("nodes[%d]", i)
		c.nodes(at, &s.Nodes[i])
		if names[s.Nodes[i].Name] {
			c.fault(at+".name", "%q is the name of two groups", s.Nodes[i].Name)
		}
		names[s.Nodes[i].Name] = true
	}
	for component, flags := range map[string]map[string]string{"controllerManager": s.ControllerManager, "scheduler": s.Scheduler} {
		for name := range flags {
			if strings.HasPrefix(name, "-") {
				c.fault(component+"."+name, "must be a flag without its dashes")
			}
		}
	}
	c.behaviors("behaviors", s.Behaviors)
	if len(s.Steps) == 0 {
		c.fault("steps", "must have at least one step")
	}
	c.countNodes()
	for i := range s.Steps {
		c.step(fmt.Sprintf("steps[%d]", i), &s.Steps[i])
	}
	return c.faults
}

// fault notes a fault at a field, or where the field would be.
func (c *checker) fault(at, format string, args ...any) {
	line := 0
	for p := at; p != ""; p = parent(p) {
		if l, ok := c.s.lines[p]; ok {
			line = l
			break
		}
	}
	c.faults = append(c.faults, Fault{File: c.s.File, Line: line, Path: at, Message: fmt.Sprintf(format, args...)})
}

func parent(p string) string {
	if i := strings.LastIndexAny(p, ".["); i >= 0 {
		return p[:i]
	}
	return ""
}

func (c *checker) oneOf(at, value string, allowed ...string) {
	if value == "" {
		c.fault(at, "must be given: %s", strings.Join(allowed, " or "))
		return
	}
	if !slices.Contains(allowed, value) {
		c.fault(at, "%q: must be %s", value, strings.Join(allowed, " or "))
	}
}

func (c *checker) name(at, value string) {
	if value == "" {
		c.fault(at, "must be given")
		return
	}
	if msgs := validation.IsDNS1123Label(value); len(msgs) > 0 {
		c.fault(at, "%q: must be lower-case letters, digits and hyphens, 63 at most", value)
	}
}

func (c *checker) selector(at, text string) {
	if _, err := labels.Parse(text); err != nil {
		c.fault(at, "%q: must be a label selector such as app=web: %v", text, err)
	}
}

func (c *checker) pods(at string, m *PodMatch) {
	c.selector(at+".selector", m.Selector)
	for _, pattern := range []struct{ field, text string }{{"name", m.Name}, {"node", m.Node}} {
		if _, err := path.Match(pattern.text, ""); err != nil {
			c.fault(at+"."+pattern.field, "%q: must be a name, with * and ? for what may vary", pattern.text)
		}
	}
}

func (c *checker) nodes(at string, g *NodeGroup) {
	c.name(at+".name", g.Name)
	if g.Count < 1 || g.Count > 10000 {
		c.fault(at+".count", "%d: must be from 1 to 10000", g.Count)
	}
	for key, value := range g.Labels {
		if msgs := validation.IsQualifiedName(key); len(msgs) > 0 {
			c.fault(at+".labels."+key, "must be a label's key: %s", msgs[0])
		}
		if msgs := validation.IsValidLabelValue(value); len(msgs) > 0 {
			c.fault(at+".labels."+key, "%q: must be a label's value: %s", value, msgs[0])
		}
	}
}

// countNodes counts the nodes of each group.
func (c *checker) countNodes() {
	c.nodeCounts = map[string]int{}
	for i := range c.s.Nodes {
		c.nodeCounts[c.s.Nodes[i].Name] += c.s.Nodes[i].Count
	}
	for i := range c.s.Steps {
		if g := c.s.Steps[i].AddNodes; g != nil {
			c.nodeCounts[g.Name] += g.Count
		}
	}
}

// nodeNames checks that there are nodes of these names at some time.
func (c *checker) nodeNames(at string, names []string) {
	for i, name := range names {
		group, number := "", -1
		if cut := strings.LastIndex(name, "-"); cut >= 0 {
			group = name[:cut]
			if n, err := strconv.Atoi(name[cut+1:]); err == nil && fmt.Sprintf("%s-%04d", group, n) == name {
				number = n
			}
		}
		if count := c.nodeCounts[group]; number < 0 || number >= count {
			c.fault(fmt.Sprintf("%s[%d]", at, i), "%q: is no node of this scenario; nodes are called GROUP-0000 and so on", name)
		}
	}
}

func (c *checker) behaviors(at string, list []Behavior) {
	for i := range list {
		at := fmt.Sprintf("%s[%d]", at, i)
		c.pods(at+".pods", &list[i].Pods)
		for j, w := range list[i].Writes {
			if w.Volume == "" {
				c.fault(fmt.Sprintf("%s.writes[%d].volume", at, j), "must be given: the name of a volume of the pod")
			}
		}
	}
}

func (c *checker) step(at string, s *Step) {
	var set []string
	for name, isSet := range map[string]bool{
		"apply": s.Apply != nil, "delete": s.Delete != nil, "scale": s.Scale != nil, "patch": s.Patch != nil,
		"wait": s.Wait != nil, "expect": s.Expect != nil, "killNodes": s.KillNodes != nil,
		"restoreNodes": s.RestoreNodes != nil, "addNodes": s.AddNodes != nil, "setBehaviors": s.SetBehaviors != nil,
	} {
		if isSet {
			set = append(set, name)
		}
	}
	slices.Sort(set)
	if len(set) != 1 {
		given := "has none"
		if len(set) > 1 {
			given = "has " + strings.Join(set, " and ")
		}
		c.fault(at, "must have exactly one of apply, delete, scale, patch, wait, expect, killNodes, restoreNodes, addNodes and setBehaviors, but %s", given)
		return
	}
	at += "." + set[0]
	switch {
	case s.Apply != nil:
		c.apply(at, s.Apply)
	case s.Delete != nil:
		c.delete(at, s.Delete)
	case s.Scale != nil:
		c.target(at, &s.Scale.Target)
		if s.Scale.Replicas == nil || *s.Scale.Replicas < 0 {
			c.fault(at+".replicas", "must be a whole number, 0 or more")
		}
	case s.Patch != nil:
		c.target(at, &s.Patch.Target)
		c.patch(at, s.Patch)
	case s.Expect != nil:
		c.expect(at, s.Expect)
	case s.KillNodes != nil:
		c.killNodes(at, s.KillNodes)
	case s.RestoreNodes != nil:
		c.nodeNames(at+".names", s.RestoreNodes.Names)
	case s.AddNodes != nil:
		c.nodes(at, s.AddNodes)
	case s.SetBehaviors != nil:
		c.behaviors(at, *s.SetBehaviors)
	}
}

func (c *checker) target(at string, t *Target) {
	if t.Kind == "" {
		c.fault(at+".kind", "must be given, such as Deployment")
	}
	if t.Name == "" {
		c.fault(at+".name", "must be given")
	}
}

func (c *checker) patch(at string, p *Patch) {
	c.oneOf(at+".type", p.Type, "merge", "strategic", "json")
	_, isList := p.Patch.([]any)
	_, isMapping := p.Patch.(map[string]any)
	switch {
	case p.Patch == nil:
		c.fault(at+".patch", "must be given")
	case p.Type == "json" && !isList:
		c.fault(at+".patch", "must be a list of operations for type json")
	case p.Type != "json" && !isMapping:
		c.fault(at+".patch", "must be a mapping; a list of operations is type json")
	}
}

func (c *checker) apply(at string, m *Manifests) {
	if len(m.Files) == 0 && len(m.Objects) == 0 {
		c.fault(at, "must have files or objects")
	}
	m.loaded = c.load(at+".files", m.Files)
	for _, o := range m.Objects {
		m.loaded = append(m.loaded, o)
	}
}

func (c *checker) delete(at string, d *Delete) {
	d.loaded = c.load(at+".files", d.Files)
	if len(d.Files) > 0 {
		return
	}
	if d.Kind == "" {
		c.fault(at+".kind", "must be given, such as Deployment, or files")
	}
	if (d.Name == "") == (d.Selector == "") {
		c.fault(at, "must have either name or selector")
	}
	c.selector(at+".selector", d.Selector)
}

// load reads manifest files, which are relative to the scenario's own.
func (c *checker) load(at string, files []string) []map[string]any {
	var all []map[string]any
	for i, name := range files {
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(c.s.File), name)
		}
		objects, err := readManifests(name)
		if err != nil {
			c.fault(fmt.Sprintf("%s[%d]", at, i), "%v", err)
		}
		all = append(all, objects...)
	}
	return all
}

func (c *checker) killNodes(at string, k *KillNodes) {
	c.oneOf(at+".fault", k.Fault, "power", "agent", "network")
	c.nodeNames(at+".names", k.Names)
	if k.Count < 0 {
		c.fault(at+".count", "%d: must be 1 or more", k.Count)
	}
	c.selector(at+".selector", k.Selector)
	if k.Running != nil {
		c.pods(at+".running", k.Running)
	}
	ways := 0
	for _, set := range []bool{len(k.Names) > 0, k.Selector != "", k.Running != nil} {
		if set {
			ways++
		}
	}
	if ways != 1 {
		c.fault(at, "must have exactly one of names, selector and running")
	}
}

func (c *checker) expect(at string, e *Expect) {
	var set []string
	for _, form := range []struct {
		name string
		set  bool
	}{{"pods", e.Pods != nil}, {"nodes", e.Nodes != nil}, {"object", e.Object != nil}, {"rollout", e.Rollout != nil},
		{"file", e.File != nil}, {"cel", e.CEL != ""}} {
		if form.set {
			set = append(set, form.name)
		}
	}
	if len(set) != 1 {
		c.fault(at, "must have exactly one of pods, nodes, object, rollout, file and cel")
		return
	}
	if len(e.With) > 0 && e.CEL == "" {
		c.fault(at+".with", "is only for cel")
	}
	switch {
	case e.Pods != nil:
		c.pods(at+".pods", &e.Pods.PodMatch)
		if len(e.Pods.wants()) == 0 && e.Pods.Restarts == nil {
			c.fault(at+".pods", "must have a number: count, ready, running, pending, succeeded, failed, terminating or restarts")
		}
	case e.Nodes != nil:
		c.selector(at+".nodes.selector", e.Nodes.Selector)
		if len(e.Nodes.wants()) == 0 {
			c.fault(at+".nodes", "must have a number: count, ready or notReady")
		}
	case e.Object != nil:
		c.target(at+".object", &e.Object.Target)
		if (e.Object.CEL == "") != e.Object.Absent {
			c.fault(at+".object", "must have either cel or absent: true")
		} else if !e.Object.Absent {
			c.compile(at+".object.cel", e, e.Object.CEL, []string{"object"})
		}
	case e.Rollout != nil:
		c.target(at+".rollout", e.Rollout)
		if kind := e.Rollout.Kind; kind != "" && rollouts[strings.ToLower(kind)] == nil {
			c.fault(at+".rollout.kind", "%q: must be Deployment, StatefulSet or DaemonSet", kind)
		}
	case e.File != nil:
		c.file(at+".file", e.File)
	default:
		names := []string{"pods", "nodes", "killed"}
		for name, list := range e.With {
			names = append(names, name)
			if list.Kind == "" {
				c.fault(at+".with."+name+".kind", "must be given, such as Job")
			}
			c.selector(at+".with."+name+".selector", list.Selector)
		}
		c.compile(at+".cel", e, e.CEL, names)
	}
}

func (c *checker) file(at string, f *FileExpect) {
	c.pods(at, &f.PodMatch)
	for name, value := range map[string]string{"volume": f.Volume, "path": f.Path} {
		if value == "" {
			c.fault(at+"."+name, "must be given")
		}
	}
	if (f.Content == nil) != f.Absent {
		c.fault(at, "must have either content or absent: true")
	}
}

func (c *checker) compile(at string, e *Expect, expression string, names []string) {
	program, err := compile(expression, names)
	if err != nil {
		c.fault(at, "%v", err)
	}
	e.program = program
}
