package scenarios

import (
	"context"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
)

// catchUpWithin bounds how long a look waits for a watch to bring what a step has
// written. An object that is gone again by then never comes.
const catchUpWithin = 2 * time.Second

var (
	podResource  = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	nodeResource = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
)

// wrote notes what a step has made of an object: a look that comes later must not
// take the object's state before for what came of the step.
func (v *view) wrote(gvr schema.GroupVersionResource, o *unstructured.Unstructured) {
	key, err := cache.MetaNamespaceKeyFunc(o)
	if err != nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.written[gvr] == nil {
		v.written[gvr] = map[string]uint64{}
	}
	v.written[gvr][key] = version(o)
}

// version is an object's resource version. Those of one resource can be compared:
// https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
func version(o any) uint64 {
	m, err := meta.Accessor(o)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(m.GetResourceVersion(), 10, 64)
	return n
}

// catchUp waits until a store has what was written.
func (v *view) catchUp(ctx context.Context, gvr schema.GroupVersionResource, store cache.Store) {
	v.mu.Lock()
	written := v.written[gvr]
	delete(v.written, gvr)
	v.mu.Unlock()
	if len(written) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpWithin)
	defer cancel()
	for key, least := range written {
		for {
			changed := v.next()
			if now, ok, _ := store.GetByKey(key); ok && version(now) >= least {
				break
			}
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return
			}
		}
	}
}
