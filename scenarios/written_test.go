package scenarios

import (
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
)

func podAt(resourceVersion string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetNamespace("default")
	o.SetName("p")
	o.SetResourceVersion(resourceVersion)
	return o
}

// TestCatchUp: a look waits for what a step has written, once, and not for ever.
func TestCatchUp(t *testing.T) {
	for _, test := range []struct {
		name    string
		arrives string
		after   time.Duration
		want    time.Duration
	}{
		{"there already", "12", 0, 0},
		{"a moment later", "12", 300 * time.Millisecond, 300 * time.Millisecond},
		{"something newer", "13", 300 * time.Millisecond, 300 * time.Millisecond},
		{"something older", "11", 300 * time.Millisecond, catchUpWithin},
		{"never", "", 0, catchUpWithin},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := &view{changed: make(chan struct{}), written: map[schema.GroupVersionResource]map[string]uint64{}}
				store := cache.NewStore(cache.MetaNamespaceKeyFunc)
				_ = store.Add(podAt("9"))
				v.wrote(podResource, podAt("12"))
				arrive := func() {
					if test.arrives != "" {
						_ = store.Update(podAt(test.arrives))
						v.signal(nil, nil)
					}
				}
				if test.after == 0 {
					arrive()
				} else {
					time.AfterFunc(test.after, arrive)
				}
				began := time.Now()
				v.catchUp(t.Context(), podResource, store)
				if took := time.Since(began); took != test.want {
					t.Errorf("waited %v, want %v", took, test.want)
				}
				began = time.Now()
				v.catchUp(t.Context(), podResource, store)
				if took := time.Since(began); took != 0 {
					t.Errorf("waited %v for what was waited for already", took)
				}
			})
		})
	}
}
