// Package scenarios is the scenario language: what a scenario file may say
// (types.go), how it is read strictly (decode.go, values.go, manifests.go,
// validate.go), how it is played on a cluster (runner.go, steps.go; view.go is
// the cluster as seen through watches), what is expected of it (expect.go waits,
// look.go and cel.go look, events.go gathers what a verdict shows) and how the
// outcome is told (report.go, junit.go). The catalogue of scenario files stands
// beside.
//
// docs/scenarios.md describes the language for its users. A new kind of step is
// a field of Step, its checks in validate.go and its action in steps.go. A new
// kind of expectation is a field of Expect, its checks in validate.go and what
// it sees in look.go.
package scenarios

import (
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// APIVersion and Kind open every scenario.
const (
	APIVersion = "nodelet.dev/v1alpha1"
	Kind       = "Scenario"
)

// Scenario is one scenario file's document.
type Scenario struct {
	APIVersion  string `yaml:"apiVersion"`
	Kind        string `yaml:"kind"`
	Name        string `yaml:"name"`
	Description string `yaml:"description"`

	// Time is real or virtual; virtual unless set.
	Time TimeMode `yaml:"time"`
	// TimeGiven says that the file sets it.
	TimeGiven bool `yaml:"-"`
	// Start is the date at which virtual time begins, RFC 3339.
	Start string `yaml:"start"`
	// Seed is the source of all randomness that is ours.
	Seed uint64 `yaml:"seed"`
	// Timeout bounds the whole scenario, 10 minutes unless set.
	Timeout Duration `yaml:"timeout"`
	// APILoad is faithful or shared.
	APILoad string `yaml:"apiLoad"`
	// ControllerManager and Scheduler are flags of these components, without
	// their dashes: {node-monitor-grace-period: 10s}.
	ControllerManager map[string]string `yaml:"controllerManager"`
	Scheduler         map[string]string `yaml:"scheduler"`

	Nodes     []NodeGroup `yaml:"nodes"`
	Behaviors []Behavior  `yaml:"behaviors"`
	Steps     []Step      `yaml:"steps"`

	// File is the file that the scenario came from.
	File string `yaml:"-"`
	// lines are where its fields stand, by path.
	lines map[string]int
}

// TimeMode says by which clock a scenario runs.
type TimeMode string

// The clocks.
const (
	RealTime    TimeMode = "real"
	VirtualTime TimeMode = "virtual"
)

// NodeGroup is a number of equal nodes, named NAME-0000 and so on.
type NodeGroup struct {
	Name     string              `yaml:"name"`
	Count    int                 `yaml:"count"`
	Capacity map[string]Quantity `yaml:"capacity"`
	Labels   map[string]string   `yaml:"labels"`
	Taints   []Taint             `yaml:"taints"`
}

// PodMatch picks pods; empty fields pick all.
type PodMatch struct {
	Namespace string `yaml:"namespace"`
	// Selector is a label selector as kubectl takes it: app=web,tier!=db.
	Selector string `yaml:"selector"`
	// Name is a pattern with * and ?, and so is Node, the name of the node that
	// the pods are on.
	Name string `yaml:"name"`
	Node string `yaml:"node"`
}

// Behavior says what the containers of some pods do. Where several match, the
// first does.
type Behavior struct {
	Pods      PodMatch `yaml:"pods"`
	Container string   `yaml:"container"`
	// Attempts limits the behaviour to the first so many incarnations of the
	// container; 0 for all.
	Attempts uint32 `yaml:"attempts"`

	Sandbox Range `yaml:"sandbox"`
	Pull    Range `yaml:"pull"`
	Create  Range `yaml:"create"`
	Start   Range `yaml:"start"`
	Stop    Range `yaml:"stop"`

	PullError   string `yaml:"pullError"`
	CreateError string `yaml:"createError"`
	StartError  string `yaml:"startError"`

	Exits         *Exit    `yaml:"exits"`
	OOMAfter      Duration `yaml:"oomAfter"`
	IgnoreSIGTERM bool     `yaml:"ignoreSIGTERM"`

	ReadyAfter        Range    `yaml:"readyAfter"`
	UnreadyAfter      Duration `yaml:"unreadyAfter"`
	UnreadyFor        Duration `yaml:"unreadyFor"`
	FailLivenessAfter Duration `yaml:"failLivenessAfter"`

	CPU    Quantity `yaml:"cpu"`
	Memory Quantity `yaml:"memory"`
	Writes []Write  `yaml:"writes"`
	Logs   []string `yaml:"logs"`
}

// Write has a container write to a volume of its pod.
type Write struct {
	Volume string   `yaml:"volume"`
	Size   Quantity `yaml:"size"`
	After  Duration `yaml:"after"`
}

// Exit has a container end by itself.
type Exit struct {
	After   Range  `yaml:"after"`
	Code    int32  `yaml:"code"`
	Message string `yaml:"message"`
}

// Step is one thing to do; exactly one of its actions is set.
type Step struct {
	Name string `yaml:"name"`

	Apply        *Manifests    `yaml:"apply"`
	Delete       *Delete       `yaml:"delete"`
	Scale        *Scale        `yaml:"scale"`
	Patch        *Patch        `yaml:"patch"`
	Wait         *Duration     `yaml:"wait"`
	Expect       *Expect       `yaml:"expect"`
	KillNodes    *KillNodes    `yaml:"killNodes"`
	RestoreNodes *RestoreNodes `yaml:"restoreNodes"`
	AddNodes     *NodeGroup    `yaml:"addNodes"`
	SetBehaviors *[]Behavior   `yaml:"setBehaviors"`
}

// Manifests are objects to apply (server-side, as field manager "sim").
type Manifests struct {
	// Files are manifest files or folders, relative to the scenario's file.
	Files   []string `yaml:"files"`
	Objects []Object `yaml:"objects"`

	loaded []map[string]any
}

// Target names an object.
type Target struct {
	// APIVersion is only needed where a kind has several groups.
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	// Namespace is "default" unless set.
	Namespace string `yaml:"namespace"`
	Name      string `yaml:"name"`
}

// Delete deletes one object, those that a selector picks, or those of manifests.
type Delete struct {
	Target   `yaml:",inline"`
	Selector string   `yaml:"selector"`
	Files    []string `yaml:"files"`
	// GracePeriodSeconds is the objects' own unless set.
	GracePeriodSeconds *int64 `yaml:"gracePeriodSeconds"`

	loaded []map[string]any
}

// Scale sets the replicas of a Deployment, StatefulSet or anything that has a
// scale subresource.
type Scale struct {
	Target   `yaml:",inline"`
	Replicas *int32 `yaml:"replicas"`
}

// Patch patches an object.
type Patch struct {
	Target `yaml:",inline"`
	// Type is merge (the default), strategic or json.
	Type        string `yaml:"type"`
	Subresource string `yaml:"subresource"`
	Patch       any    `yaml:"patch"`
}

// KillNodes takes nodes away: named ones, or some that a selector picks or that
// run certain pods.
type KillNodes struct {
	Names    []string `yaml:"names"`
	Selector string   `yaml:"selector"`
	// Running picks nodes that run such pods, the fullest first.
	Running *PodMatch `yaml:"running"`
	// Count is how many of those picked, 1 unless set.
	Count int `yaml:"count"`
	// Fault is power (the default: the machine dies), agent (the agent dies,
	// containers go on) or network (the node is cut off from the API server).
	Fault string `yaml:"fault"`
}

// RestoreNodes brings killed nodes back: the named ones, or all.
type RestoreNodes struct {
	Names []string `yaml:"names"`
}

// Expect is what is to become true within a time, and to stay so for another.
type Expect struct {
	Pods    *PodsExpect   `yaml:"pods"`
	Nodes   *NodesExpect  `yaml:"nodes"`
	Object  *ObjectExpect `yaml:"object"`
	Rollout *Target       `yaml:"rollout"`
	File    *FileExpect   `yaml:"file"`
	// CEL is an expression over the lists pods and nodes, the names of the
	// killed nodes in killed, and the lists of With.
	CEL  string                `yaml:"cel"`
	With map[string]ListTarget `yaml:"with"`

	// Within is 30 s unless set.
	Within Duration `yaml:"within"`
	For    Duration `yaml:"for"`

	program *program
}

// ListTarget names a list of objects.
type ListTarget struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Namespace  string `yaml:"namespace"`
	Selector   string `yaml:"selector"`
}

// PodsExpect counts pods. All counts that are set must hold. A pod that is being
// deleted counts in Count and in Terminating only.
type PodsExpect struct {
	PodMatch `yaml:",inline"`

	Count       *Count `yaml:"count"`
	Ready       *Count `yaml:"ready"`
	Running     *Count `yaml:"running"`
	Pending     *Count `yaml:"pending"`
	Succeeded   *Count `yaml:"succeeded"`
	Failed      *Count `yaml:"failed"`
	Terminating *Count `yaml:"terminating"`
	// Restarts is of each pod's containers summed; it must hold for every pod.
	Restarts *Count `yaml:"restarts"`
}

// FileExpect looks at a file in a volume of pods, as their containers see it: a config
// map's, a secret's, a downwardAPI's or a projected one. Pods that have ended or are
// being deleted do not count.
type FileExpect struct {
	PodMatch `yaml:",inline"`

	Volume string `yaml:"volume"`
	// Path is below the volume.
	Path string `yaml:"path"`
	// Content is the whole of the file, or with Absent there is none.
	Content *string `yaml:"content"`
	Absent  bool    `yaml:"absent"`
	// Pods is of how many that holds; of all, at least one, unless set.
	Pods *Count `yaml:"pods"`
}

// NodesExpect counts nodes. All counts that are set must hold.
type NodesExpect struct {
	Selector string `yaml:"selector"`
	Count    *Count `yaml:"count"`
	Ready    *Count `yaml:"ready"`
	NotReady *Count `yaml:"notReady"`

	// except are names of nodes that are left out.
	except map[string]bool
	// usable: a ready node counts from when pods are bound to it.
	usable bool
}

// ObjectExpect looks at one object: at a CEL expression over the variable object,
// or that it is absent.
type ObjectExpect struct {
	Target `yaml:",inline"`
	CEL    string `yaml:"cel"`
	Absent bool   `yaml:"absent"`
}

// Count is what a number of things must be: 3, or a comparison such as ">= 3".
type Count struct {
	// Op is ==, !=, <, <=, > or >=.
	Op string
	N  int
}

// Object is a manifest written inline, with the types of decoded JSON.
type Object map[string]any

// Duration is written as in Go: 1m30s.
type Duration struct{ time.Duration }

// Range is one duration, or two with a hyphen between: 1s-3s.
type Range struct{ Min, Max time.Duration }

// Quantity is a Kubernetes quantity: 100m, 2Gi.
type Quantity struct{ resource.Quantity }

// Taint is written as kubectl does: key=value:Effect or key:Effect.
type Taint struct{ Key, Value, Effect string }
