package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"nodelet/agent/pod"
)

// command is a container in which a command ends with a code or an error.
type command struct {
	code int
	err  error
	ran  []string
}

func (c *command) ProbeExec(_ context.Context, _ string, args []string) (int, string, error) {
	c.ran = args
	return c.code, "said", c.err
}

func hook(h v1.LifecycleHandler, ip string) HookRequest {
	return HookRequest{Pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}},
		Container: &v1.Container{Name: "c", Ports: []v1.ContainerPort{{Name: "web", ContainerPort: 1}}}, ContainerID: "id", PodIP: ip, Handler: &h}
}

func TestExecHook(t *testing.T) {
	exec := v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"do", "it"}}}
	for _, test := range []struct {
		c    *command
		want string
	}{
		{&command{}, ""},
		{&command{code: 3}, `Exec lifecycle hook ([do it]) for Container "c" in Pod "p_ns(u)" failed - error: command 'do it' exited with 3: said, message: "said"`},
		{&command{err: errors.New("no such file")}, `Exec lifecycle hook ([do it]) for Container "c" in Pod "p_ns(u)" failed - error: no such file, message: "said"`},
	} {
		err := (&Hooks{Exec: test.c}).Run(t.Context(), hook(exec, ""))
		if got := fmt.Sprint(err); err == nil && test.want != "" || err != nil && got != test.want {
			t.Errorf("error %q, want %q", got, test.want)
		}
		if fmt.Sprint(test.c.ran) != "[do it]" {
			t.Errorf("it ran %q", test.c.ran)
		}
	}
}

func TestSleepHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ten := v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: 10}}
		if err := (&Hooks{}).Run(t.Context(), hook(ten, "")); err != nil || time.Since(began) != 10*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		began = time.Now()
		if err := (&Hooks{}).Run(ctx, hook(ten, "")); err == nil || time.Since(began) != 4*time.Second {
			t.Errorf("cut off after %v: %v", time.Since(began), err)
		}
	})
	if err := (&Hooks{}).Run(t.Context(), hook(v1.LifecycleHandler{}, "")); err == nil {
		t.Error("a hook without a handler is none")
	}
}

func TestHTTPHook(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String()+" "+r.Header.Get("User-Agent")+" "+r.Header.Get("X")+r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusTeapot)
	}))
	defer server.Close()
	host, portText, _ := net.SplitHostPort(server.Listener.Addr().String())
	port, _ := strconv.Atoi(portText)
	var events []string
	hooks := &Hooks{Target: NewNetwork("v1.37.2"), Event: func(e pod.Event) { events = append(events, e.Reason+": "+e.Message) }}
	run := func(a v1.HTTPGetAction) error {
		asked, events = nil, nil
		a.HTTPHeaders = append(a.HTTPHeaders, v1.HTTPHeader{Name: "X", Value: "y"}, v1.HTTPHeader{Name: "Authorization", Value: "z"})
		return hooks.Run(t.Context(), hook(v1.LifecycleHandler{HTTPGet: &a}, host))
	}
	// Whatever it answers.
	if err := run(v1.HTTPGetAction{Path: "/a?b=c", Port: intstr.FromInt(port)}); err != nil || fmt.Sprint(asked) != "[/a?b=c kube-lifecycle/1.37 yz]" || events != nil {
		t.Errorf("asked %q, events %q, %v", asked, events, err)
	}
	// A server without TLS gets no secrets.
	err := run(v1.HTTPGetAction{Path: "/a", Scheme: v1.URISchemeHTTPS, Port: intstr.FromInt(port)})
	want := fmt.Sprintf("[LifecycleHTTPFallback: request to HTTPS lifecycle hook %s got HTTP response, retry with HTTP succeeded]", server.Listener.Addr())
	if err != nil || fmt.Sprint(asked) != "[/a kube-lifecycle/1.37 y]" || fmt.Sprint(events) != want {
		t.Errorf("asked %q, events %q, %v", asked, events, err)
	}
	if err := run(v1.HTTPGetAction{Path: "/a", Port: intstr.FromString("none")}); err == nil {
		t.Error("no port, but no error")
	}
	server.Close()
	err = run(v1.HTTPGetAction{Path: "/a", Port: intstr.FromInt(port)})
	if prefix := `HTTP lifecycle hook (/a) for Container "c" in Pod "p_ns(u)" failed - error: Get "http://`; err == nil || err.Error()[:len(prefix)] != prefix {
		t.Errorf("error %v", err)
	}
}
