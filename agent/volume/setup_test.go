//go:build linux

package volume

import (
	"context"
	"errors"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// slowPod has a volume whose driver takes its time, and others.
const slowPod = `
containers:
- name: c
  volumeMounts: [{name: slow, mountPath: /slow}, {name: s, mountPath: /s}, {name: e, mountPath: /e}]
volumes:
- {name: slow, csi: {driver: d}}
- {name: s, secret: {secretName: absent}}
- {name: e, emptyDir: {}}
`

// A volume that takes long does not keep it a secret that another one has failed, nor
// is it begun again with the next try.
func TestSlowVolume(t *testing.T) {
	inTime(t, func(t *testing.T, w *world, s *Memory) {
		d := &drivers{w: w, hang: make(chan struct{})}
		w.CSI = d
		p := podOf(t, slowPod)
		for range 3 {
			began := time.Now()
			err := w.Mount(t.Context(), p)
			if want := `MountVolume.SetUp failed for volume "s" : secret "absent" not found`; err == nil || err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
			if took := time.Since(began); took != patience {
				t.Errorf("took %v", took)
			}
		}
		w.setSecret("absent", "k=v")
		time.AfterFunc(time.Hour, func() { close(d.hang) })
		began := time.Now()
		must(t, w.Mount(t.Context(), p))
		if took := time.Since(began); took != time.Hour || d.calls() != 1 {
			t.Errorf("mounted after %v, with %d calls of the driver", took, d.calls())
		}
		if got, err := s.ReadFile("uid-1", "s", "k"); got != "v" {
			t.Errorf("the secret is %q, %v", got, err)
		}
	})
}

// What is still being set up when one of the others cannot be is named too.
func TestUnmountedVolumesAreNamed(t *testing.T) {
	inTime(t, func(t *testing.T, w *world, _ *Memory) {
		d := &drivers{w: w, hang: make(chan struct{})}
		w.CSI, w.Claims = d, &claims{}
		p := podOf(t, slowPod+"- {name: data, persistentVolumeClaim: {claimName: claim}}\n")
		w.setSecret("absent")
		err := w.Mount(t.Context(), p)
		const want = "Unable to attach or mount volumes: unmounted volumes=[data slow], unattached volumes=[], failed to process volumes=[data]: " +
			"error processing PVC ns/claim: failed to fetch PVC from API server: no such claim"
		if err == nil || err.Error() != want {
			t.Errorf("error %v\nwant %s", err, want)
		}
		close(d.hang)
	})
}

// A pod's end, the end of the wait for it and that of the agent end what is being set
// up.
func TestSlowVolumeIsGivenUp(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, w *world){
		"the pod's":        func(t *testing.T, w *world) { must(t, w.Unmount(t.Context(), "uid-1")) },
		"the pod's files'": func(t *testing.T, w *world) { must(t, w.Remove(t.Context(), "uid-1")) },
		"the agent's":      func(_ *testing.T, w *world) { w.endSetups() },
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, w *world, _ *Memory) {
				d := &drivers{w: w, hang: make(chan struct{})}
				w.CSI = d
				p := podOf(t, slowPod)
				if w.Mount(t.Context(), p) == nil {
					t.Error("mounted")
				}
				began := time.Now()
				end(t, w)
				d.mu.Lock()
				defer d.mu.Unlock()
				if took := time.Since(began); took != 0 || d.hung != 0 {
					t.Errorf("took %v, and %d calls go on", took, d.hung)
				}
			})
		})
	}
	inTime(t, func(t *testing.T, w *world, _ *Memory) {
		w.CSI = &drivers{w: w, hang: make(chan struct{})}
		w.setSecret("absent")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.Mount(ctx, podOf(t, slowPod)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

// lagging forbids claims for a while.
type lagging struct {
	*claims
	until time.Time
}

func (l *lagging) PersistentVolumeClaim(ctx context.Context, namespace, name string) (*v1.PersistentVolumeClaim, error) {
	if time.Now().Before(l.until) {
		return nil, apierrors.NewForbidden(schema.GroupResource{Resource: "persistentvolumeclaims"}, name, errors.New("no relationship found"))
	}
	return l.claims.PersistentVolumeClaim(ctx, namespace, name)
}

// A claim that the API server forbids for a moment is nothing to tell of; one that it
// goes on to forbid is.
func TestClaimIsForbiddenForAMoment(t *testing.T) {
	for lag, fails := range map[time.Duration]bool{250 * time.Millisecond: false, time.Second: true} {
		inTime(t, func(t *testing.T, w *world, _ *Memory) {
			c := &claims{}
			c.claim.Name, c.claim.UID, c.claim.Spec.VolumeName, c.claim.Status.Phase = "claim", "claim-uid", "pv", v1.ClaimBound
			c.pv.Name, c.pv.Spec.ClaimRef = "pv", &v1.ObjectReference{UID: "claim-uid"}
			c.pv.Spec.HostPath = &v1.HostPathVolumeSource{Path: "/data"}
			w.Claims = &lagging{c, time.Now().Add(lag)}
			err := w.Mount(t.Context(), podOf(t, "containers: [{name: c, volumeMounts: [{name: data, mountPath: /data}]}]\n"+
				"volumes: [{name: data, persistentVolumeClaim: {claimName: claim}}]"))
			if (err != nil) != fails {
				t.Errorf("after %v: %v", lag, err)
			}
		})
	}
}
