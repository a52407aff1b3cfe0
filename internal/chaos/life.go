package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Does is what one incarnation of a container does.
type Does string

// What incarnations do.
const (
	// Exit: it ends by itself.
	Exit Does = "exit"
	// Serve: it answers on its port until SIGTERM.
	Serve Does = "serve"
	// Deaf: it runs until SIGTERM, but its port is closed.
	Deaf Does = "deaf"
	// Stubborn: it serves and ignores SIGTERM.
	Stubborn Does = "stubborn"
	// OOM: it takes memory until it is killed for it.
	OOM Does = "oom"
	// Broken: there is no such program; it cannot be started.
	Broken Does = "broken"
)

// Run is one incarnation of a container.
type Run struct {
	Does  Does
	Code  int32
	After time.Duration
}

// String is the run as the test program understands it.
func (r Run) String() string {
	if r.Does == Exit {
		return fmt.Sprintf("exit:%d:%g", r.Code, r.After.Seconds())
	}
	return string(r.Does)
}

// End is how a pod is ended by its owner.
type End struct {
	// Grace are the grace periods of the deletions, one after the other, in
	// seconds: none at all for a pod that stays, 0 for a forced one.
	Grace []int64
	// After is how long after the pod came it is deleted, where that goes by time.
	After time.Duration
	// AtRest says, where it goes by what is seen of the pod, that it is deleted when
	// nothing changes any more; else it is as soon as container c0 serves in its last run.
	AtRest bool
	// Again has another pod of the same name come soon after.
	Again bool
}

// Change is something that a pod's owner changes while it runs.
type Change string

// The changes of pods that run.
const (
	// NewImage gives container c0 another image.
	NewImage Change = "image"
	// Resize gives container c0 more CPU.
	Resize Change = "resize"
	// Debug adds an ephemeral container.
	Debug Change = "debug"
)

// Life is a pod and what becomes of it.
type Life struct {
	Pod *v1.Pod
	// Runs are the incarnations of each container; the last one is repeated.
	Runs map[string][]Run
	// Changes are made, in order, when container c0 serves in its last run.
	Changes []Change
	End     End
}

// String describes a life in a few lines.
func (l *Life) String() string {
	var b strings.Builder
	s := &l.Pod.Spec
	fmt.Fprintf(&b, "%s %s", l.Pod.Name, s.RestartPolicy)
	if s.ActiveDeadlineSeconds != nil {
		fmt.Fprintf(&b, " deadline %d s", *s.ActiveDeadlineSeconds)
	}
	if len(s.NodeSelector) > 0 {
		fmt.Fprintf(&b, " selector %v", s.NodeSelector)
	}
	if len(s.ReadinessGates) > 0 {
		fmt.Fprintf(&b, " gate")
	}
	if len(l.Changes) > 0 {
		fmt.Fprintf(&b, " changes %v", l.Changes)
	}
	if len(l.End.Grace) > 0 {
		fmt.Fprintf(&b, " deleted with %v after %v", l.End.Grace, l.End.After)
	}
	if l.End.Again {
		b.WriteString(" comes again")
	}
	describe := func(kind string, c *v1.Container) {
		fmt.Fprintf(&b, "\n  %s %s %v", kind, c.Name, l.Runs[c.Name])
		if c.RestartPolicy != nil {
			fmt.Fprintf(&b, " %s", *c.RestartPolicy)
		}
		for name, p := range map[string]*v1.Probe{"liveness": c.LivenessProbe, "readiness": c.ReadinessProbe, "startup": c.StartupProbe} {
			if p != nil {
				fmt.Fprintf(&b, " %s", name)
			}
		}
		if c.Lifecycle != nil {
			fmt.Fprintf(&b, " postStart=%v preStop=%v", c.Lifecycle.PostStart != nil, c.Lifecycle.PreStop != nil)
		}
		if c.Image != Image || c.SecurityContext != nil {
			fmt.Fprintf(&b, " %s %v", c.Image, c.SecurityContext)
		}
	}
	for i := range s.InitContainers {
		describe("init", &s.InitContainers[i])
	}
	for i := range s.Containers {
		describe("main", &s.Containers[i])
	}
	return b.String()
}

// The images of lives: Image and OtherImage have the test program, NoImage is never
// there.
const (
	Image      = "chaos.test/app:1"
	OtherImage = "chaos.test/app:2"
	NoImage    = "chaos.test/none:1"
)

// basePort is the port of a pod's first container.
const basePort = 8000

// maker makes lives.
type maker struct {
	r    *rand.Rand
	life *Life
}

// NewLives returns random lives, always the same for a seed.
func NewLives(seed uint64, count int) []*Life {
	lives := make([]*Life, count)
	for i := range lives {
		m := maker{r: rand.New(rand.NewPCG(seed, uint64(i)))}
		lives[i] = m.make(fmt.Sprintf("life-%d-%d", seed, i))
	}
	return lives
}

func (m *maker) oneIn(n int) bool { return m.r.IntN(n) == 0 }

func (m *maker) make(name string) *Life {
	m.life = &Life{Pod: &v1.Pod{}, Runs: map[string][]Run{}}
	p := m.life.Pod
	p.Name = name
	s := &p.Spec
	s.Volumes = []v1.Volume{{Name: "state", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
	s.DNSPolicy = v1.DNSDefault
	s.RestartPolicy = []v1.RestartPolicy{v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever}[m.r.IntN(3)]
	grace := int64(5)
	s.TerminationGracePeriodSeconds = &grace
	for i := range []int{0, 0, 1, 1, 2}[m.r.IntN(5)] {
		m.init(fmt.Sprintf("i%d", i))
	}
	m.main("c0")
	if m.oneIn(3) {
		m.second("c1")
	}
	switch m.r.IntN(12) {
	case 0:
		if m.serves() {
			seconds := int64(30)
			s.ActiveDeadlineSeconds = &seconds
		}
	case 1:
		s.NodeSelector = map[string]string{"no": "where"}
	case 2:
		s.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "example.com/gate"}}
	}
	m.life.End = End{Grace: [][]int64{nil, {5}, {5}, {30, 2}, {2}, {0}}[m.r.IntN(6)],
		After: time.Duration(m.r.Int64N(int64(90 * time.Second)))}
	c := &s.Containers[0]
	runs := c.Image == Image && c.SecurityContext == nil && s.NodeSelector == nil
	m.life.End.AtRest = !m.serves() || !runs || m.oneIn(2)
	if m.serves() && runs && m.oneIn(2) {
		m.change()
	}
	m.life.End.Again = len(m.life.End.Grace) == 1 && m.life.End.Grace[0] == 0 && m.oneIn(2)
	return m.life
}

// change has the pod changed while it runs. It is deleted no earlier than when that
// has come to rest.
func (m *maker) change() {
	c := &m.life.Pod.Spec.Containers[0]
	for range 1 + m.r.IntN(2) {
		m.life.Changes = append(m.life.Changes, []Change{NewImage, Resize, Debug}[m.r.IntN(3)])
	}
	if slices.Contains(m.life.Changes, Resize) {
		c.Resources.Requests = withCPU(c.Resources.Requests, "10m")
		c.Resources.Limits = withCPU(c.Resources.Limits, "500m")
	}
	m.life.Runs[debugger] = []Run{[]Run{m.exit(3), {Does: Serve}}[m.r.IntN(2)]}
	m.life.End.AtRest = true
}

// debugger is the name of the ephemeral container.
const debugger = "d0"

func withCPU(list v1.ResourceList, cpu string) v1.ResourceList {
	all := v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}
	if q, ok := list[v1.ResourceMemory]; ok {
		all[v1.ResourceMemory] = q
	}
	return all
}

// Change makes a change to a pod.
func (l *Life) Change(p *v1.Pod, change Change) {
	c := &p.Spec.Containers[0]
	switch change {
	case NewImage:
		c.Image = OtherImage
	case Resize:
		c.Resources.Requests = withCPU(c.Resources.Requests, "20m")
		c.Resources.Limits = withCPU(c.Resources.Limits, "600m")
	case Debug:
		if len(p.Spec.EphemeralContainers) > 0 {
			return
		}
		p.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon(
			container(debugger, l.Runs[debugger]...))}}
	}
}

// serves reports whether the pod comes to run until somebody ends it, whatever
// happens before.
func (m *maker) serves() bool {
	runs := m.life.Runs["c0"]
	return m.life.Pod.Spec.RestartPolicy == v1.RestartPolicyAlways && runs[len(runs)-1].Does != Exit
}

// container makes a container with its runs.
func (m *maker) container(name string, runs ...Run) v1.Container {
	m.life.Runs[name] = runs
	c := container(name, runs...)
	// A hook is over before the container ends by itself.
	if len(runs) == 1 && runs[0].Does == Serve && m.oneIn(4) {
		c.Lifecycle = &v1.Lifecycle{PostStart: m.hook()}
	}
	if m.oneIn(4) {
		if c.Lifecycle == nil {
			c.Lifecycle = &v1.Lifecycle{}
		}
		c.Lifecycle.PreStop = m.hook()
	}
	return c
}

// hook is one that succeeds.
func (m *maker) hook() *v1.LifecycleHandler {
	if m.oneIn(2) {
		return &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"/test", "echo"}}}
	}
	return &v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: 1}}
}

func container(name string, runs ...Run) v1.Container {
	c := v1.Container{Name: name, Image: Image, ImagePullPolicy: v1.PullIfNotPresent,
		TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: v1.TerminationMessageReadFile,
		VolumeMounts: []v1.VolumeMount{{Name: "state", MountPath: "/state"}},
		Args:         []string{"life", "/state/" + name, strconv.Itoa(int(Port(name)))}}
	for _, r := range runs {
		c.Args = append(c.Args, r.String())
		switch r.Does {
		case OOM:
			c.Resources.Limits = v1.ResourceList{v1.ResourceMemory: resource.MustParse("24Mi")}
			c.Resources.Requests = c.Resources.Limits
		case Broken:
			c.Command, c.Args = []string{"/no-such-program"}, nil
		}
	}
	return c
}

// probe is a TCP probe of the container's port.
func (m *maker) probe(name string) *v1.Probe {
	return &v1.Probe{ProbeHandler: v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt32(Port(name))}},
		TimeoutSeconds: 1, PeriodSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3}
}

// Port is the port of a container: those of a pod share a network.
func Port(container string) int32 {
	port := int32(basePort)
	switch container[0] {
	case 'i':
		port += 100
	case 'd':
		port += 200
	}
	return port + int32(container[1]-'0')
}

// exit is a run that ends after a second or two.
func (m *maker) exit(code int32) Run {
	return Run{Does: Exit, Code: code, After: time.Second + time.Duration(m.r.IntN(8))*100*time.Millisecond}
}

func (m *maker) init(name string) {
	s := &m.life.Pod.Spec
	var c v1.Container
	switch m.r.IntN(4) {
	case 0:
		c = m.container(name, Run{Does: Serve})
		always := v1.ContainerRestartPolicyAlways
		c.RestartPolicy = &always
		c.ReadinessProbe = m.probe(name)
		if m.oneIn(2) {
			c.StartupProbe = m.probe(name)
		}
	case 1:
		c = m.container(name, m.exit(int32(1+m.r.IntN(3))), m.exit(0))
	default:
		c = m.container(name, m.exit(0))
	}
	s.InitContainers = append(s.InitContainers, c)
}

// main makes the container that ends, or does not, as its pod's policy allows.
func (m *maker) main(name string) {
	s := &m.life.Pod.Spec
	var runs []Run
	liveness := false
	for range m.r.IntN(3) {
		switch m.r.IntN(6) {
		case 0:
			runs = append(runs, Run{Does: OOM})
		case 1:
			runs, liveness = append(runs, Run{Does: Deaf}), true
		default:
			runs = append(runs, m.exit(int32(1+m.r.IntN(3))))
		}
	}
	last := []Run{{Does: Serve}, {Does: Serve}, {Does: Stubborn}, m.exit(0)}[m.r.IntN(4)]
	if s.RestartPolicy == v1.RestartPolicyAlways && last.Does == Exit {
		last = Run{Does: Serve}
	}
	c := m.container(name, append(runs, last)...)
	if liveness {
		c.LivenessProbe = m.probe(name)
	}
	if last.Does != Exit {
		// So that it is seen when the program minds signals.
		c.ReadinessProbe = m.probe(name)
	}
	switch m.r.IntN(16) {
	case 0:
		c.Image, c.ImagePullPolicy = NoImage, v1.PullNever
	case 1:
		nonRoot := true
		c.SecurityContext = &v1.SecurityContext{RunAsNonRoot: &nonRoot}
	case 2:
		if s.RestartPolicy == v1.RestartPolicyNever {
			c = m.container(name, Run{Does: Broken})
		}
	}
	s.Containers = append(s.Containers, c)
}

// second makes another container, which does nothing remarkable.
func (m *maker) second(name string) {
	s := &m.life.Pod.Spec
	run := Run{Does: Serve}
	if s.RestartPolicy != v1.RestartPolicyAlways && m.oneIn(2) {
		run = m.exit(0)
	}
	c := m.container(name, run)
	if run.Does == Serve {
		c.ReadinessProbe = m.probe(name)
	}
	s.Containers = append(s.Containers, c)
}
