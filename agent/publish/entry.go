package publish

import (
	"math"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"nodelet/agent/pod"
	"nodelet/agent/podstatus"
)

// entry is one pod's. It is guarded by the Publisher's lock.
type entry struct {
	// static says that the pod is a static one, of which the API server has a
	// mirror at most.
	static bool
	// known is the newest object that the API server is known to have had: of a
	// static pod its mirror. It is nil while there is none.
	known *v1.Pod
	// wanted is the newest status.
	wanted v1.PodStatus
	// sent is what was wanted at the last write, answer what the API server
	// made of it; nil before the first.
	sent, answer *v1.PodStatus
	// finished says that nothing of the pod is left on the node.
	finished bool
	// queued says that a write is under way, about to be, or to be tried again.
	queued bool
	// delay is the pause before the last retry; 0 after a success.
	delay time.Duration
	// awaited says that somebody waits until it is clean.
	awaited bool
	// restarts are those that it was written for of late.
	restarts recently
}

// recently counts what happened, the less the longer ago.
type recently struct {
	n  float64
	at time.Time
}

// halfLife is after when something counts half: crash loops are forgotten after as
// long.
const halfLife = 10 * time.Minute

func (r *recently) of(now time.Time) float64 {
	return r.n * math.Exp2(-float64(now.Sub(r.at))/float64(halfLife))
}

func (r *recently) count(n int, now time.Time) { r.n, r.at = r.of(now)+float64(n), now }

// restarted is how often the pod's containers were restarted.
func restarted(status *v1.PodStatus) (n int) {
	for _, c := range slices.Concat(status.InitContainerStatuses, status.ContainerStatuses) {
		n += int(c.RestartCount)
	}
	return n
}

// lose notes that the object of that UID is gone.
func (e *entry) lose(uid types.UID) {
	if e.known != nil && e.known.UID == uid {
		e.known = nil
	}
}

// learn keeps the newer of two objects and reports whether it is the given one.
func (e *entry) learn(object *v1.Pod) bool {
	if e.known == nil {
		e.known = object
		return true
	}
	order, err := resourceversion.CompareResourceVersion(e.known.ResourceVersion, object.ResourceVersion)
	if err != nil || order <= 0 {
		e.known = object
		return true
	}
	return false
}

// clean reports whether the API server has all it should.
func (e *entry) clean() bool {
	if e.known == nil {
		return true
	}
	if e.finished && e.known.DeletionTimestamp != nil {
		return false
	}
	status := e.status()
	if apiequality.Semantic.DeepEqual(status, e.known.Status) {
		return true
	}
	// The API server may store a status otherwise than it was sent; sending it
	// again would change nothing.
	return e.sent != nil && apiequality.Semantic.DeepEqual(e.wanted, *e.sent) &&
		apiequality.Semantic.DeepEqual(e.known.Status, *e.answer)
}

// status is what to write: what is wanted, with the conditions that others own
// as the API server has them, and nothing taken back of a pod that has ended.
func (e *entry) status() v1.PodStatus {
	known, status := &e.known.Status, e.wanted
	status.Conditions = make([]v1.PodCondition, 0, len(known.Conditions)+len(e.wanted.Conditions))
	disrupted := slices.ContainsFunc(e.wanted.Conditions, func(c v1.PodCondition) bool { return podstatus.Disrupts(&c) })
	for _, c := range known.Conditions {
		if !podstatus.Owned(c.Type) && (c.Type != v1.DisruptionTarget || !disrupted) {
			status.Conditions = append(status.Conditions, c)
		}
	}
	for _, c := range e.wanted.Conditions {
		if podstatus.Owned(c.Type) || podstatus.Disrupts(&c) {
			status.Conditions = append(status.Conditions, c)
		}
	}
	// A static pod may begin anew under its old UID.
	if pod.IsTerminal(known.Phase) && !e.static {
		if status.Phase != known.Phase {
			status.Phase, status.Reason, status.Message = known.Phase, known.Reason, known.Message
		}
		status.InitContainerStatuses = keepEnded(known.InitContainerStatuses, status.InitContainerStatuses)
		status.ContainerStatuses = keepEnded(known.ContainerStatuses, status.ContainerStatuses)
	}
	return status
}

// keepEnded returns wanted, but with the status of a container that has ended
// where wanted has it wait: in a pod that has ended nothing starts again, so an
// agent that says so has forgotten.
func keepEnded(known, wanted []v1.ContainerStatus) []v1.ContainerStatus {
	copied := false
	for i := range wanted {
		if wanted[i].State.Terminated != nil || wanted[i].State.Running != nil {
			continue
		}
		for j := range known {
			if known[j].Name != wanted[i].Name || known[j].State.Terminated == nil {
				continue
			}
			if !copied {
				wanted, copied = slices.Clone(wanted), true
			}
			wanted[i] = known[j]
		}
	}
	return wanted
}
