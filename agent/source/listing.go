package source

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
)

// listing is what a source of manifests has told its sink.
type listing struct {
	source pod.Source
	sink   Sink
	pods   map[types.UID]*v1.Pod
}

func newListing(source pod.Source, sink Sink) *listing {
	return &listing{source: source, sink: sink, pods: map[types.UID]*v1.Pod{}}
}

// replace tells the sink what has changed: pods are all that there are now, and
// no two have the same UID or name.
func (l *listing) replace(pods []*v1.Pod) {
	next := make(map[types.UID]*v1.Pod, len(pods))
	for _, p := range pods {
		next[p.UID] = p
	}
	for _, uid := range slices.SortedFunc(maps.Keys(l.pods), l.byName) {
		old := l.pods[uid]
		if now := next[uid]; now == nil || pod.FullName(now) != pod.FullName(old) {
			delete(l.pods, uid)
			l.sink.Delete(l.source, old)
		}
	}
	for _, p := range pods {
		if old := l.pods[p.UID]; old != nil {
			p.Annotations[pod.AnnotationSeen] = old.Annotations[pod.AnnotationSeen]
			if apiequality.Semantic.DeepEqual(old, p) {
				continue
			}
		}
		l.pods[p.UID] = p
		l.sink.Put(l.source, p)
	}
	l.sink.Synced(l.source)
}

// byName has runs repeat.
func (l *listing) byName(a, b types.UID) int {
	return cmp.Compare(pod.FullName(l.pods[a]), pod.FullName(l.pods[b]))
}

// faults tells of what is wrong with manifests, once for each content and
// reason. The zero value has told nothing.
type faults struct{ told, now map[string]string }

// tell logs a fault of the manifest at a place, whose content is data, unless
// the last look found the same.
func (f *faults) tell(log *slog.Logger, place string, data []byte, err error) {
	key := fmt.Sprintf("%x %v", sha256.Sum256(data), err)
	if f.now == nil {
		f.now = map[string]string{}
	}
	f.now[place] = key
	if f.told[place] != key {
		log.Warn("Could not use a static pod's manifest", "manifest", place, "err", err)
	}
}

// looked ends a look, and reports whether it was the first without a fault.
func (f *faults) looked() bool {
	recovered := len(f.now) == 0 && len(f.told) > 0
	f.told, f.now = f.now, nil
	return recovered
}
