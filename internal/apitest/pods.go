package apitest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"nodelet/agent/pod"
)

// Create makes a pod, which is bound to its node already, and returns it with
// what an API server adds.
func (s *Server) Create(p *v1.Pod) *v1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	p = p.DeepCopy()
	p.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	if p.UID == "" {
		s.serial++
		p.UID = types.UID(fmt.Sprintf("uid-%s-%d", p.Name, s.serial))
	}
	if p.Namespace == "" {
		p.Namespace = metav1.NamespaceDefault
	}
	p.Generation, p.CreationTimestamp = 1, metav1.NewTime(time.Now()).Rfc3339Copy()
	p.Status = v1.PodStatus{Phase: v1.PodPending}
	s.store(p)
	return p
}

// NewUID returns a UID as API servers give them.
func NewUID() types.UID { return uuid.NewUUID() }

// store keeps a pod and tells the watchers.
func (s *Server) store(p *v1.Pod) {
	p.ResourceVersion = s.nextVersion()
	s.pods[nameOf(p)] = p
	s.tell(func(w *watcher) { w.pending = append(w.pending, event{pod: p}) })
}

func (s *Server) remove(p *v1.Pod) {
	delete(s.pods, nameOf(p))
	last := p.DeepCopy()
	last.ResourceVersion = s.nextVersion()
	s.tell(func(w *watcher) { w.pending = append(w.pending, event{pod: last, deleted: true}) })
}

func nameOf(p *v1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
}

// Get returns a pod as it is now, nil if there is none. It must not be changed.
func (s *Server) Get(namespace, name string) *v1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pods[types.NamespacedName{Namespace: namespace, Name: name}]
}

// Pods returns all pods by name. They must not be changed.
func (s *Server) Pods() []*v1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list()
}

func (s *Server) list() []*v1.Pod {
	var all []*v1.Pod
	for _, p := range s.pods {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *v1.Pod) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return all
}

// Await waits until a pod is as it is to be, and reports whether it was before ctx
// ended. met is called with nil when there is no such pod; it must not call the
// Server or change the pod.
func (s *Server) Await(ctx context.Context, namespace, name string, met func(p *v1.Pod) bool) bool {
	w, _, _ := s.open()
	defer s.close(w)
	for {
		if met(s.Get(namespace, name)) {
			return true
		}
		if s.take(ctx, w, nil) == nil {
			return false
		}
	}
}

// Change changes a pod's spec or its metadata.
func (s *Server) Change(namespace, name string, change func(p *v1.Pod)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.pods[types.NamespacedName{Namespace: namespace, Name: name}]
	if old == nil {
		return
	}
	p := old.DeepCopy()
	change(p)
	if !apiequality.Semantic.DeepEqual(old.Spec, p.Spec) {
		p.Generation++
	}
	s.store(p)
}

// Delete asks for a pod's end as a user does: within grace seconds; with 0 the
// pod is gone at once, whatever its node does. A pod that has ended needs no
// grace.
func (s *Server) Delete(namespace, name string, grace int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pods[types.NamespacedName{Namespace: namespace, Name: name}]; p != nil {
		s.delete(p, grace)
	}
}

func (s *Server) delete(p *v1.Pod, grace int64) {
	if grace == 0 || pod.IsTerminal(p.Status.Phase) {
		s.remove(p)
		return
	}
	if old := p.DeletionGracePeriodSeconds; old != nil && *old <= grace {
		return
	}
	next := p.DeepCopy()
	if p.DeletionTimestamp == nil {
		next.Generation++
	}
	at := metav1.NewTime(time.Now().Add(time.Duration(grace) * time.Second)).Rfc3339Copy()
	next.DeletionTimestamp, next.DeletionGracePeriodSeconds = &at, &grace
	s.store(next)
}

// History returns the statuses that a pod has had, in order.
func (s *Server) History(uid types.UID) []v1.PodStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.histories[uid])
}

// servePod answers a node's call about one pod.
func (s *Server) servePod(r *http.Request, name types.NamespacedName, body []byte) (int, any) {
	p := s.pods[name]
	if p == nil {
		return http.StatusNotFound, failure(http.StatusNotFound, metav1.StatusReasonNotFound)
	}
	switch r.Method {
	case http.MethodGet:
		return http.StatusOK, p
	case http.MethodDelete:
		return s.finish(p, body)
	case http.MethodPatch:
		return s.patchStatus(p, body)
	}
	return http.StatusMethodNotAllowed, failure(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed)
}

// finish is the node's own deletion.
func (s *Server) finish(p *v1.Pod, body []byte) (int, any) {
	var options metav1.DeleteOptions
	if err := decodeOptions(body, &options); err != nil {
		return http.StatusBadRequest, failure(http.StatusBadRequest, metav1.StatusReasonBadRequest)
	}
	if u := options.Preconditions; u != nil && u.UID != nil && *u.UID != p.UID {
		return http.StatusConflict, failure(http.StatusConflict, metav1.StatusReasonConflict)
	}
	if options.GracePeriodSeconds == nil || *options.GracePeriodSeconds != 0 || p.DeletionTimestamp == nil {
		s.fault(p, "its node deletes it with %+v", options)
	}
	s.checkWrite(p, nil)
	s.remove(p)
	return http.StatusOK, p
}

func (s *Server) patchStatus(p *v1.Pod, body []byte) (int, any) {
	var meta struct {
		Metadata struct{ UID types.UID }
		Status   json.RawMessage
	}
	if err := json.Unmarshal(body, &meta); err != nil {
		return http.StatusBadRequest, failure(http.StatusBadRequest, metav1.StatusReasonBadRequest)
	}
	if meta.Metadata.UID != p.UID {
		return http.StatusConflict, failure(http.StatusConflict, metav1.StatusReasonConflict)
	}
	patched := &v1.Pod{}
	if code, fault := patch(p, patched, body); fault != nil {
		return code, fault
	}
	if apiequality.Semantic.DeepEqual(p.Status, patched.Status) {
		return http.StatusOK, p
	}
	next := p.DeepCopy()
	next.Status = patched.Status
	s.checkStatus(p, next)
	s.checkWrite(p, &next.Status)
	s.histories[p.UID] = append(s.histories[p.UID], *next.Status.DeepCopy())
	s.store(next)
	return http.StatusOK, next
}

func (s *Server) checkWrite(p *v1.Pod, status *v1.PodStatus) {
	if s.onWrite == nil {
		return
	}
	if err := s.onWrite(p, status); err != nil {
		s.fault(p, "%v", err)
	}
}
