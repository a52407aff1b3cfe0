package docker

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"k8s.io/kubelet/pkg/types"

	"nodelet/agent/pod"
	"nodelet/internal/sleep"
)

// The events after which a pod may look different.
var telling = []events.Action{events.ActionCreate, events.ActionStart, events.ActionDie,
	events.ActionDestroy, events.ActionOOM, events.ActionUpdate}

// hub shares one stream of the engine's events among all subscribers; it runs
// while there are any.
type hub struct {
	stream func(ctx context.Context, since time.Time, notify func(pod.UID))

	mu   sync.Mutex
	next int
	all  map[int]func(pod.UID)
	stop context.CancelFunc
}

// Subscribe has notify called for each pod of which the engine tells something.
func (r *Runtime) Subscribe(notify func(pod.UID)) (cancel func()) {
	return r.events.subscribe(notify)
}

func (h *hub) subscribe(notify func(pod.UID)) (cancel func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		h.all = map[int]func(pod.UID){}
	}
	key := h.next
	h.next++
	h.all[key] = notify
	if len(h.all) == 1 {
		ctx, stop := context.WithCancel(context.Background())
		h.stop = stop
		since := time.Now()
		go h.stream(ctx, since, h.tell)
	}
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.all, key)
		if len(h.all) == 0 {
			h.stop()
		}
	})
}

func (h *hub) tell(uid pod.UID) {
	h.mu.Lock()
	var all []func(pod.UID)
	for _, notify := range h.all {
		all = append(all, notify)
	}
	h.mu.Unlock()
	for _, notify := range all {
		notify(uid)
	}
}

// stream follows the engine's events until ctx ends, through restarts of the
// engine. After one every pod may look different.
func (r *Runtime) stream(ctx context.Context, since time.Time, notify func(pod.UID)) {
	const retry = time.Second
	for {
		last, err := r.follow(ctx, since, notify)
		if ctx.Err() != nil {
			return
		}
		r.log.Warn("The engine's events ended; listening again", "err", err)
		for {
			if !sleep.For(ctx, retry) {
				return
			}
			if pods, err := r.ListPods(ctx); err == nil {
				since = last
				for i := range pods {
					notify(pods[i].UID)
				}
				break
			}
		}
	}
}

// follow passes events on until the stream ends, and returns the time of the
// last one, or since.
func (r *Runtime) follow(ctx context.Context, since time.Time, notify func(pod.UID)) (time.Time, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := r.negotiate(ctx); err != nil {
		return since, err
	}
	args := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)), filters.Arg("label", labelType))
	for _, action := range telling {
		args.Add("event", string(action))
	}
	messages, failed := r.client.Events(ctx, events.ListOptions{Filters: args,
		Since: strconv.FormatInt(since.Unix(), 10) + "." + pad9(since.Nanosecond())})
	for {
		select {
		case m := <-messages:
			since = time.Unix(0, m.TimeNano)
			if uid := m.Actor.Attributes[types.KubernetesPodUIDLabel]; uid != "" {
				notify(pod.UID(uid))
			}
		case err := <-failed:
			return since, err
		}
	}
}

// pad9 is n as nine digits.
func pad9(n int) string {
	s := strconv.Itoa(n)
	for len(s) < 9 {
		s = "0" + s
	}
	return s
}
