package probe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// HookRequest is one lifecycle hook to be run.
type HookRequest struct {
	Pod         *v1.Pod
	Container   *v1.Container
	ContainerID string
	// PodIP is the pod's primary address.
	PodIP   string
	Handler *v1.LifecycleHandler
}

// Hooks runs lifecycle hooks, which reach containers as probes do. See
// https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/.
type Hooks struct {
	Target Target
	Exec   Execer
	Event  func(pod.Event)
}

const eventHTTPFallback = "LifecycleHTTPFallback"

// Run runs a hook to its end, or to that of ctx. The error is in the kubelet's
// words; it may hold what the hook has written.
func (h *Hooks) Run(ctx context.Context, r HookRequest) error {
	name := fmt.Sprintf("for Container %q in Pod %q failed - error: ", r.Container.Name,
		fmt.Sprintf("%s_%s(%s)", r.Pod.Name, r.Pod.Namespace, r.Pod.UID))
	switch {
	case r.Handler.Exec != nil:
		command := r.Handler.Exec.Command
		code, output, err := h.Exec.ProbeExec(ctx, r.ContainerID, command)
		if err == nil && code != 0 {
			err = fmt.Errorf("command '%s' exited with %d: %s", strings.Join(command, " "), code, output)
		}
		if err != nil {
			//lint:ignore ST1005 the kubelet's words
			return fmt.Errorf("Exec lifecycle hook (%v) %s%w, message: %q", command, name, err, output)
		}
	case r.Handler.HTTPGet != nil:
		err := h.Target.Hook(ctx, r)
		if fallback := Warning(""); errors.As(err, &fallback) {
			h.Event(pod.Event{Pod: r.Pod, Type: v1.EventTypeWarning, Reason: eventHTTPFallback, Message: string(fallback)})
			err = nil
		}
		if err != nil {
			return fmt.Errorf("HTTP lifecycle hook (%s) %s%w", r.Handler.HTTPGet.Path, name, err)
		}
	case r.Handler.Sleep != nil:
		timer := time.NewTimer(time.Duration(r.Handler.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			//lint:ignore ST1005 the kubelet's words
			return fmt.Errorf("Sleep lifecycle hook (%d) %scontainer terminated before sleep hook finished", r.Handler.Sleep.Seconds, name)
		}
	default:
		//lint:ignore ST1005 the kubelet's words
		return fmt.Errorf("Cannot run handler: invalid handler: %v", r.Handler)
	}
	return nil
}

// Hook implements Target. Any answer will do. What speaks HTTP where HTTPS was
// asked for is asked again, and the error is a Warning.
func (n *Network) Hook(ctx context.Context, r HookRequest) error {
	request, err := n.request(ctx, Request{Container: r.Container, PodIP: r.PodIP}, r.Handler.HTTPGet, n.hookAgent)
	if err != nil {
		return err
	}
	err = n.answer(request)
	var failed *url.Error
	if errors.As(err, &failed) && strings.Contains(failed.Err.Error(), "server gave HTTP response to HTTPS client") {
		request.URL.Scheme = "http"
		request.Header.Del("Authorization")
		if n.answer(request) == nil {
			return Warning(fmt.Sprintf("request to HTTPS lifecycle hook %s got HTTP response, retry with HTTP succeeded", request.URL.Host))
		}
	}
	return err
}

// answer waits for an answer to a request.
func (n *Network) answer(request *http.Request) error {
	client := &http.Client{Transport: n.transport, CheckRedirect: withinHost}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}
