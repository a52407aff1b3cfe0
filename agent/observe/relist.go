package observe

import (
	"context"
	"time"

	"nodelet/agent/pod"
)

// relist lists the runtime once, looks closer at every pod that seems to have
// changed, and returns when to list again.
func (o *Observer) relist(ctx context.Context) time.Duration {
	began := time.Now()
	look := o.nextLook()
	listCtx, cancel := context.WithTimeout(ctx, o.config.Timeout)
	defer cancel()
	listed, err := o.runtime.ListPods(listCtx)
	if err != nil {
		if ctx.Err() == nil {
			o.log.Warn("Could not list the runtime's pods", "err", err)
		}
		return o.config.RetryPeriod
	}
	if o.listedBefore() {
		for _, uid := range o.suspects(listed, look) {
			o.notify(uid)
		}
	} else if !o.inspectAll(ctx, listed) {
		return o.config.RetryPeriod
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.listed == 0 {
		close(o.synced)
	}
	o.listed, o.lastList = look, began
	for uid, at := range o.gone {
		if at < look {
			delete(o.gone, uid)
		}
	}
	return o.config.RelistPeriod
}

func (o *Observer) listedBefore() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.listed > 0
}

// inspectAll looks at every pod for the first time: until all are known,
// nothing may be planned.
func (o *Observer) inspectAll(ctx context.Context, listed []pod.Observed) bool {
	for i := range listed {
		if err := o.Refresh(ctx, listed[i].UID); err != nil {
			if ctx.Err() == nil {
				o.log.Warn("Could not look at a pod", "uid", listed[i].UID, "err", err)
			}
			return false
		}
	}
	return true
}

// suspects are the pods of which the list says something else than the
// snapshots that are older than it.
func (o *Observer) suspects(listed []pod.Observed, look uint64) []pod.UID {
	o.mu.Lock()
	defer o.mu.Unlock()
	var uids []pod.UID
	seen := make(map[pod.UID]bool, len(listed))
	for i := range listed {
		uid := listed[i].UID
		seen[uid] = true
		if e, found := o.pods[uid]; !found || e.look < look && !alike(&e.Observed, &listed[i]) {
			uids = append(uids, uid)
		}
	}
	for uid, e := range o.pods {
		if !seen[uid] && e.look < look {
			uids = append(uids, uid)
		}
	}
	return uids
}

// alike compares what a list is certain of: IDs and states.
func alike(a, b *pod.Observed) bool {
	if len(a.Sandboxes) != len(b.Sandboxes) || len(a.Containers) != len(b.Containers) {
		return false
	}
	for i := range a.Sandboxes {
		if a.Sandboxes[i].ID != b.Sandboxes[i].ID || a.Sandboxes[i].Ready != b.Sandboxes[i].Ready {
			return false
		}
	}
	for i := range a.Containers {
		if a.Containers[i].ID != b.Containers[i].ID || a.Containers[i].State != b.Containers[i].State {
			return false
		}
	}
	return true
}
