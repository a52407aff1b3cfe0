package kubeapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"reflect"
	"strings"
	"sync"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// server is a transport that answers as an API server would, without a socket,
// so that tests with it can run in a synctest bubble.
type server struct {
	t *testing.T

	mu sync.Mutex
	// answers is what is answered, by "METHOD /path" of the request; a request
	// that is not among them is NotFound.
	answers map[string]func(r *request) (int, runtime.Object)
	// requests are those that came, watches apart.
	requests []*request
	// objects are listed to a watch that begins, and watches are open.
	objects []runtime.Object
	watches map[string]*io.PipeWriter
	opened  int
	// refuse answers a GET in place of the server if it returns anything.
	refuse func(r *http.Request) (*http.Response, error)
}

// request is a request that came.
type request struct {
	*http.Request
	body []byte
}

// object is the request's body, which is in protobuf, or JSON for a patch.
func (r *request) object(t *testing.T) runtime.Object {
	t.Helper()
	o, _, err := scheme.Codecs.UniversalDeserializer().Decode(r.body, nil, nil)
	if err != nil {
		t.Fatalf("decoding the body of %s %s: %v", r.Method, r.URL.Path, err)
	}
	return o
}

func newServer(t *testing.T) *server {
	return &server{t: t, answers: map[string]func(*request) (int, runtime.Object){}, watches: map[string]*io.PipeWriter{}}
}

func (s *server) client() *Client {
	c, err := New(&rest.Config{Host: "http://api", Transport: s}, DefaultOptions())
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// answer sets what is answered to a request.
func (s *server) answer(call string, code int, o runtime.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[call] = func(*request) (int, runtime.Object) { return code, o }
}

// echo answers a request with its own body.
func (s *server) echo(call string) {
	s.answers[call] = func(r *request) (int, runtime.Object) { return http.StatusCreated, r.object(s.t) }
}

// take returns the requests since the last call.
func (s *server) take() []*request {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := s.requests
	s.requests = nil
	return requests
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	refuse := s.refuse
	s.mu.Unlock()
	if refuse != nil && r.Method == http.MethodGet {
		if status, err := refuse(r); status != nil || err != nil {
			return status, err
		}
	}
	if r.URL.Query().Get("watch") != "" {
		return s.watch(r)
	}
	req := &request{Request: r}
	if r.Body != nil {
		req.body, _ = io.ReadAll(r.Body)
	}
	call := r.Method + " " + r.URL.Path
	s.mu.Lock()
	s.requests = append(s.requests, req)
	answer, ok := s.answers[call]
	s.mu.Unlock()
	if !ok {
		return response(http.StatusNotFound, failure(http.StatusNotFound, metav1.StatusReasonNotFound)), nil
	}
	code, o := answer(req)
	if o == nil {
		// It hangs.
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return response(code, o), nil
}

func failure(code int32, reason metav1.StatusReason) *metav1.Status {
	return &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: code, Reason: reason}
}

func response(code int, o runtime.Object) *http.Response {
	var body bytes.Buffer
	_ = json.NewEncoder(&body).Encode(o)
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(&body)}
}

// kinds are the kinds of object by resource, as far as they are watched.
var kinds = map[string]func() runtime.Object{
	"pods":       func() runtime.Object { return &v1.Pod{TypeMeta: typeMeta("Pod")} },
	"nodes":      func() runtime.Object { return &v1.Node{TypeMeta: typeMeta("Node")} },
	"configmaps": func() runtime.Object { return &v1.ConfigMap{TypeMeta: typeMeta("ConfigMap")} },
	"secrets":    func() runtime.Object { return &v1.Secret{TypeMeta: typeMeta("Secret")} },
	"services":   func() runtime.Object { return &v1.Service{TypeMeta: typeMeta("Service")} },
}

func typeMeta(kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: "v1", Kind: kind} }

// watch opens a watch and sends it the objects of its kind that have the name it
// asks for, as the API server does when asked to, with a bookmark at their end.
// A watch is closed when its request ends.
func (s *server) watch(r *http.Request) (*http.Response, error) {
	key := r.URL.Path + "?" + r.URL.Query().Get("fieldSelector")
	s.mu.Lock()
	defer s.mu.Unlock()
	reader, writer := io.Pipe()
	s.opened++
	s.watches[key] = writer
	context.AfterFunc(r.Context(), func() { writer.CloseWithError(r.Context().Err()) })
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		end := kinds[path.Base(r.URL.Path)]()
		name, one := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
		var objects []runtime.Object
		for _, o := range s.objects {
			if reflect.TypeOf(o) == reflect.TypeOf(end) && (!one || o.(metav1.Object).GetName() == name) {
				objects = append(objects, o)
			}
		}
		go func() {
			for _, o := range objects {
				send(writer, watch.Added, o)
			}
			end.(metav1.Object).SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
			end.(metav1.Object).SetResourceVersion("100")
			send(writer, watch.Bookmark, end)
		}()
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: &watchBody{PipeReader: reader, s: s, key: key, writer: writer}}, nil
}

// watchBody is the reader's end of a watch.
type watchBody struct {
	*io.PipeReader
	s      *server
	key    string
	writer *io.PipeWriter
}

func (b *watchBody) Close() error {
	b.s.mu.Lock()
	if b.s.watches[b.key] == b.writer {
		delete(b.s.watches, b.key)
	}
	b.s.mu.Unlock()
	return b.PipeReader.Close()
}

// refuseWith has GETs answered by f from now on; nil lets them through.
func (s *server) refuseWith(f func(r *http.Request) (*http.Response, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = f
}

// openWatches is how many watches are open.
func (s *server) openWatches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.watches)
}

// send sends an event to a watch and waits until it was read.
func send(w *io.PipeWriter, kind watch.EventType, o runtime.Object) {
	data, _ := json.Marshal(o)
	fmt.Fprintf(w, `{"type":%q,"object":%s}`+"\n", kind, data)
}

// open returns the watch on a path with a field selector.
func (s *server) open(call string) *io.PipeWriter {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.watches[call]
	if w == nil {
		s.t.Fatalf("no watch on %s; open are %v", call, s.watches)
	}
	return w
}

// list sets what a watch that begins is sent first.
func (s *server) list(objects ...runtime.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects = objects
}
