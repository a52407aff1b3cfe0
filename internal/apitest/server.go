package apitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"nodelet/agent/kubeapi"
)

// Outcome is what becomes of a call.
type Outcome int

// The outcomes of a call.
const (
	// OK: it is answered.
	OK Outcome = iota
	// Refused: the API server is not reached.
	Refused
	// Lost: it is done, but the answer does not arrive.
	Lost
	// Failed: the API server answers with an error of its own.
	Failed
)

// Server is an API server. All methods may be called concurrently.
type Server struct {
	mu      sync.Mutex
	version int
	pods    map[types.NamespacedName]*v1.Pod
	node    *v1.Node
	lease   []byte
	// watchers are told of every change.
	watchers map[*watcher]bool
	// histories are the statuses that each pod has had, by UID.
	histories map[types.UID][]v1.PodStatus
	events    map[types.UID][]v1.Event
	faults    []string
	serial    int
	// lossy says that calls may have failed, so that a node may have seen more than
	// its statuses say: a condition may have changed twice between two of them.
	lossy   bool
	onWrite func(p *v1.Pod, status *v1.PodStatus) error
}

// New returns a Server without pods. onWrite, which may be nil, is called before
// a status is written, and with a nil status before a node deletes a pod for
// good; it must not call the Server. An error that it returns is a fault.
func New(onWrite func(p *v1.Pod, status *v1.PodStatus) error) *Server {
	return &Server{pods: map[types.NamespacedName]*v1.Pod{}, watchers: map[*watcher]bool{},
		histories: map[types.UID][]v1.PodStatus{}, events: map[types.UID][]v1.Event{}, onWrite: onWrite}
}

// Link is one agent's way to a Server.
type Link struct {
	server *Server
	// outcome says what becomes of a call; nil is OK.
	outcome func(r *http.Request) Outcome

	mu  sync.Mutex
	cut bool
}

// NewLink returns a way to the server. outcome says what becomes of each call;
// nil is OK.
func (s *Server) NewLink(outcome func(r *http.Request) Outcome) *Link {
	return &Link{server: s, outcome: outcome}
}

// SetLossy says that a node may see more than it can write, for its calls fail or
// time is real: a condition may then have changed twice between two statuses.
func (s *Server) SetLossy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lossy = true
}

// Client returns a client over the link.
func (l *Link) Client() (*kubeapi.Client, error) {
	return kubeapi.New(&rest.Config{Host: "http://api", Transport: l}, kubeapi.DefaultOptions())
}

// Cut has all further calls fail.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
}

// RoundTrip implements http.RoundTripper.
func (l *Link) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	cut := l.cut
	l.mu.Unlock()
	outcome := OK
	if l.outcome != nil {
		outcome = l.outcome(r)
	}
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body.Close()
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	switch {
	case cut || outcome == Refused:
		return nil, fmt.Errorf("calling the API server: %w", syscall.ECONNREFUSED)
	case outcome == Failed:
		return answer(http.StatusInternalServerError, failure(http.StatusInternalServerError, metav1.StatusReasonInternalError)), nil
	}
	code, object := l.server.serve(r, body)
	if outcome == Lost {
		return nil, fmt.Errorf("waiting for the API server's answer: %w", syscall.ECONNRESET)
	}
	return answer(code, object), nil
}

func answer(code int, o any) *http.Response {
	data, ok := o.([]byte)
	if !ok {
		// Everything that is answered can be encoded.
		data, _ = json.Marshal(o)
	}
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(data))}
}

func failure(code int32, reason metav1.StatusReason) *metav1.Status {
	return &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
		Code: code, Reason: reason, Message: string(reason)}
}

// serve answers one call.
func (s *Server) serve(r *http.Request, body []byte) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case strings.Contains(r.URL.Path, "/leases"):
		return s.serveLease(r, body)
	case strings.HasSuffix(r.URL.Path, "/events") || strings.Contains(r.URL.Path, "/events/"):
		return s.serveEvent(body)
	case len(parts) >= 3 && parts[2] == "nodes":
		return s.serveNode(r, body)
	case len(parts) >= 6 && parts[4] == "pods":
		return s.servePod(r, types.NamespacedName{Namespace: parts[3], Name: parts[5]}, body)
	}
	return http.StatusNotFound, failure(http.StatusNotFound, metav1.StatusReasonNotFound)
}

func (s *Server) nextVersion() string {
	s.version++
	return strconv.Itoa(s.version)
}

// serveLease keeps the one lease as it was last written, in whatever encoding.
func (s *Server) serveLease(r *http.Request, body []byte) (int, any) {
	switch {
	case r.Method != http.MethodGet:
		if o, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil); err == nil {
			s.lease, _ = json.Marshal(o)
		}
		return http.StatusOK, s.lease
	case s.lease == nil:
		return http.StatusNotFound, failure(http.StatusNotFound, metav1.StatusReasonNotFound)
	}
	return http.StatusOK, s.lease
}

func (s *Server) serveEvent(body []byte) (int, any) {
	e := &v1.Event{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Event"}}
	o, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, e)
	if decoded, ok := o.(*v1.Event); err == nil && ok {
		e = decoded
		uid := e.InvolvedObject.UID
		s.events[uid] = append(s.events[uid], *e)
	}
	e.APIVersion, e.Kind = "v1", "Event"
	return http.StatusCreated, e
}

func (s *Server) serveNode(r *http.Request, body []byte) (int, any) {
	switch r.Method {
	case http.MethodPost:
		if s.node != nil {
			return http.StatusConflict, failure(http.StatusConflict, metav1.StatusReasonAlreadyExists)
		}
		o, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
		if err != nil {
			return http.StatusBadRequest, failure(http.StatusBadRequest, metav1.StatusReasonBadRequest)
		}
		s.node = o.(*v1.Node).DeepCopy()
		s.node.UID = "node-uid"
	case http.MethodPatch:
		next := &v1.Node{}
		if code, fault := patch(s.node, next, body); fault != nil {
			return code, fault
		}
		s.node = next
	case http.MethodGet:
		if s.node == nil {
			return http.StatusNotFound, failure(http.StatusNotFound, metav1.StatusReasonNotFound)
		}
		return http.StatusOK, s.node
	}
	s.node.APIVersion, s.node.Kind = "v1", "Node"
	s.node.ResourceVersion = s.nextVersion()
	s.tell(func(w *watcher) { w.pending = append(w.pending, event{node: s.node}) })
	return http.StatusOK, s.node
}

// patch applies a strategic merge patch to an object.
func patch(old, next runtime.Object, body []byte) (int, *metav1.Status) {
	bad := failure(http.StatusBadRequest, metav1.StatusReasonBadRequest)
	from, err := json.Marshal(old)
	if err != nil {
		return http.StatusBadRequest, bad
	}
	to, err := strategicpatch.StrategicMergePatch(from, body, next)
	if err != nil {
		return http.StatusBadRequest, bad
	}
	if err := json.Unmarshal(to, next); err != nil {
		return http.StatusBadRequest, bad
	}
	return http.StatusOK, nil
}

// Node returns the Node, nil before it is registered.
func (s *Server) Node() *v1.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node
}

// Events returns the events of an object, in order, as they were written.
func (s *Server) Events(uid types.UID) []v1.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events[uid])
}

// Faults are the things that the node did and never may.
func (s *Server) Faults() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.faults)
}

func (s *Server) fault(p *v1.Pod, format string, args ...any) {
	s.faults = append(s.faults, fmt.Sprintf("%s pod %s: %s", time.Now().UTC().Format("15:04:05.000"), p.Name, fmt.Sprintf(format, args...)))
}

// tell has every watcher take note of something.
func (s *Server) tell(note func(*watcher)) {
	for w := range maps.Keys(s.watchers) {
		note(w)
		w.signal()
	}
}
