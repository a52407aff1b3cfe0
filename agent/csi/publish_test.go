//go:build linux

package csi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/pod"
)

// mountOf is how a plain volume is to be mounted.
func mountOf(mode spec.VolumeCapability_AccessMode_Mode) *spec.VolumeCapability {
	return &spec.VolumeCapability{AccessMode: &spec.VolumeCapability_AccessMode{Mode: mode},
		AccessType: &spec.VolumeCapability_Mount{Mount: &spec.VolumeCapability_MountVolume{}}}
}

const (
	single = spec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	tokens = `{"":{"token":"token for ","expirationTimestamp":"2001-09-09T01:46:40Z"},"vault":{"token":"token for vault","expirationTimestamp":"2001-09-09T01:46:40Z"}}`
)

// What a driver is told.
func TestRequests(t *testing.T) {
	const uid = "u1"
	yes := true
	group := int64(77)
	inPod := func(change func(*pod.CSIVolume), v *pod.CSIVolume) *pod.CSIVolume { change(v); return v }
	podInfo := map[string]string{"a": "b", "csi.storage.k8s.io/pod.name": "p-u1", "csi.storage.k8s.io/pod.namespace": "ns",
		"csi.storage.k8s.io/pod.uid": "u1", "csi.storage.k8s.io/serviceAccount.name": "sa", "csi.storage.k8s.io/ephemeral": "true"}
	tests := []struct {
		name   string
		can    []spec.NodeServiceCapability_RPC_Type
		about  func(*storage.CSIDriverSpec)
		volume func(w *world) *pod.CSIVolume
		// stage is the request to stage, nil for none; the paths are filled in.
		stage   *spec.NodeStageVolumeRequest
		publish *spec.NodePublishVolumeRequest
		group   bool
	}{
		{
			name:    "plain",
			volume:  func(w *world) *pod.CSIVolume { return w.persistent(uid) },
			publish: &spec.NodePublishVolumeRequest{VolumeId: handle, VolumeContext: map[string]string{"a": "b"}, VolumeCapability: mountOf(single)},
		},
		{
			name:    "staged",
			can:     []spec.NodeServiceCapability_RPC_Type{stages},
			volume:  func(w *world) *pod.CSIVolume { return w.persistent(uid) },
			stage:   &spec.NodeStageVolumeRequest{VolumeId: handle, VolumeContext: map[string]string{"a": "b"}, VolumeCapability: mountOf(single)},
			publish: &spec.NodePublishVolumeRequest{VolumeId: handle, VolumeContext: map[string]string{"a": "b"}, VolumeCapability: mountOf(single)},
		},
		{
			name: "with everything",
			can:  []spec.NodeServiceCapability_RPC_Type{stages, setsGroup, severalW},
			volume: func(w *world) *pod.CSIVolume {
				return inPod(func(v *pod.CSIVolume) {
					v.ReadOnly = true
					v.Pod.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: &group}
				}, w.persistent(uid, func(pv *v1.PersistentVolume) {
					pv.Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.ReadWriteOncePod}
					pv.Spec.MountOptions = []string{"noatime"}
					pv.Spec.CSI.FSType = "ext4"
					pv.Spec.CSI.NodeStageSecretRef = &v1.SecretReference{Namespace: "ns", Name: "s"}
					pv.Spec.CSI.NodePublishSecretRef = &v1.SecretReference{Namespace: "other", Name: "s"}
				}))
			},
			stage: &spec.NodeStageVolumeRequest{VolumeId: handle, VolumeContext: map[string]string{"a": "b"}, Secrets: map[string]string{"k": "ns"},
				VolumeCapability: &spec.VolumeCapability{AccessMode: &spec.VolumeCapability_AccessMode{Mode: spec.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER},
					AccessType: &spec.VolumeCapability_Mount{Mount: &spec.VolumeCapability_MountVolume{FsType: "ext4", MountFlags: []string{"noatime"}, VolumeMountGroup: "77"}}}},
			publish: &spec.NodePublishVolumeRequest{VolumeId: handle, Readonly: true, VolumeContext: map[string]string{"a": "b"}, Secrets: map[string]string{"k": "other"},
				VolumeCapability: &spec.VolumeCapability{AccessMode: &spec.VolumeCapability_AccessMode{Mode: spec.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER},
					AccessType: &spec.VolumeCapability_Mount{Mount: &spec.VolumeCapability_MountVolume{FsType: "ext4", MountFlags: []string{"noatime"}, VolumeMountGroup: "77"}}}},
		},
		{
			name:  "inline, which is never staged, with what the driver wants to know of the pod",
			can:   []spec.NodeServiceCapability_RPC_Type{stages},
			about: func(s *storage.CSIDriverSpec) { s.PodInfoOnMount = &yes },
			volume: func(w *world) *pod.CSIVolume {
				return w.inline(uid, func(s *v1.CSIVolumeSource) { s.NodePublishSecretRef = &v1.LocalObjectReference{Name: "s"} })
			},
			publish: &spec.NodePublishVolumeRequest{VolumeId: "csi-eaaf0f8a288eb0ec48164fe27b477ef98465099436d8fad823dd93303c2b67d5",
				VolumeContext: podInfo, Secrets: map[string]string{"k": "ns"}, VolumeCapability: mountOf(single)},
		},
		{
			name:   "tokens",
			about:  func(s *storage.CSIDriverSpec) { s.TokenRequests = []storage.TokenRequest{{}, {Audience: "vault"}} },
			volume: func(w *world) *pod.CSIVolume { return w.persistent(uid) },
			publish: &spec.NodePublishVolumeRequest{VolumeId: handle, VolumeCapability: mountOf(single),
				VolumeContext: map[string]string{"a": "b", "csi.storage.k8s.io/serviceAccount.tokens": tokens}},
		},
		{
			name: "tokens among the secrets",
			about: func(s *storage.CSIDriverSpec) {
				s.TokenRequests = []storage.TokenRequest{{}, {Audience: "vault"}}
				s.ServiceAccountTokenInSecrets = &yes
			},
			volume: func(w *world) *pod.CSIVolume { return w.persistent(uid) },
			publish: &spec.NodePublishVolumeRequest{VolumeId: handle, VolumeCapability: mountOf(single),
				VolumeContext: map[string]string{"a": "b"}, Secrets: map[string]string{"csi.storage.k8s.io/serviceAccount.tokens": tokens}},
		},
		{
			name:  "the agent is to give the group",
			about: func(s *storage.CSIDriverSpec) { p := storage.FileFSGroupPolicy; s.FSGroupPolicy = &p },
			volume: func(w *world) *pod.CSIVolume {
				return inPod(func(v *pod.CSIVolume) { v.Pod.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: &group} }, w.persistent(uid))
			},
			publish: &spec.NodePublishVolumeRequest{VolumeId: handle, VolumeContext: map[string]string{"a": "b"}, VolumeCapability: mountOf(single)},
			group:   true,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.about(test.about)
			for _, ns := range []string{"ns", "other"} {
				w.secrets[ns+"/s"] = &v1.Secret{Data: map[string][]byte{"k": []byte(ns)}}
			}
			d := w.driver(test.can...)
			v := test.volume(w)
			group, err := w.Publish(t.Context(), v)
			if err != nil || group != test.group {
				t.Errorf("giveGroup %v, %v", group, err)
			}
			test.publish.TargetPath = v.Target
			var stage proto.Message
			if test.stage != nil {
				staging := filepath.Join(w.root, "plugins/kubernetes.io/csi", driverName,
					"d2e8363faaac7ae76def3b14091d8eb5755f6b92e9531627aeec833a8731cc49", "globalmount")
				test.stage.StagingTargetPath, test.publish.StagingTargetPath = staging, staging
				stage = test.stage
			}
			same(t, d.Last("NodeStageVolume"), stage)
			same(t, d.Last("NodePublishVolume"), test.publish)
			w.mustUnpublish(uid)
			w.wantClean()
		})
	}
}

func same(t *testing.T, got, want proto.Message) {
	t.Helper()
	if got == nil && want == nil {
		return
	}
	if got == nil || want == nil || !proto.Equal(got, want) {
		t.Errorf("request\n%v\nwant\n%v", got, want)
	}
}

// Two pods of a node share a global mount, which goes with the last of them.
func TestShared(t *testing.T) {
	w := newWorld(t)
	w.about(nil)
	d := w.driver(stages)
	a, b := w.persistent("a"), w.persistent("b")
	w.mustPublish(a)
	w.mustPublish(b)
	if err := os.WriteFile(filepath.Join(a.Target, "f"), []byte("of a"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(b.Target, "f")); err != nil || string(data) != "of a" {
		t.Errorf("b reads %q, %v", data, err)
	}
	w.mustUnpublish("a")
	w.mustUnpublish("a")
	w.mustUnpublish("b")
	const want = "NodeStageVolume NodePublishVolume NodePublishVolume NodeUnpublishVolume NodeUnpublishVolume NodeUnstageVolume"
	if got := d.Methods(); got != want {
		t.Errorf("calls %s\nwant  %s", got, want)
	}
	w.wantClean()
	if data, err := os.ReadFile(filepath.Join(w.root, "data", handle, "f")); err != nil || string(data) != "of a" {
		t.Errorf("the volume has %q, %v", data, err)
	}
}

// What the agent notes beside the mounts is as the kubelet notes it.
func TestVolumeData(t *testing.T) {
	w := newWorld(t)
	w.about(nil)
	w.driver(stages)
	v := w.persistent("u")
	w.mustPublish(v)
	for file, want := range map[string]string{
		filepath.Join(filepath.Dir(v.Target), "vol_data.json"): `{"driverName":"test.csi.nodelet","volumeHandle":"vol-1","specVolID":"pv-1","nodeName":"n1",` +
			`"attachmentID":"csi-3b8a694f6a55ce76e29a28d7c394609087abcdd763b9af5a38d16e8eb1f5c8eb","volumeLifecycleMode":"Persistent"}` + "\n",
		filepath.Join(filepath.Dir(w.globalMount(volumeKey{driverName, handle})), "vol_data.json"): `{"driverName":"test.csi.nodelet","volumeHandle":"vol-1"}` + "\n",
	} {
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s: %s%v\nwant %s", file, got, err, want)
		}
	}
}

// What keeps a volume from being mounted, in the kubelet's words.
func TestFailures(t *testing.T) {
	no := errors.New("no")
	tests := []struct {
		name   string
		with   func(w *world)
		volume func(w *world) *pod.CSIVolume
		want   string
	}{
		{"no driver", func(w *world) { w.dropDriver(w.Manager.drivers[driverName]) }, nil,
			"MountDevice: kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: driver name test.csi.nodelet not found in the list of registered CSI drivers"},
		{"no driver for an inline volume", func(w *world) { w.dropDriver(w.Manager.drivers[driverName]) }, func(w *world) *pod.CSIVolume { return w.inline("u") },
			"kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name test.csi.nodelet not found in the list of registered CSI drivers"},
		{"inline without a CSIDriver", func(w *world) { delete(w.drivers, driverName) }, func(w *world) *pod.CSIVolume { return w.inline("u") },
			`kubernetes.io/csi: mounter.SetupAt failed to check volume lifecycle mode: volume mode "Ephemeral" not supported by driver test.csi.nodelet (no CSIDriver object)`},
		{"another mode", func(w *world) {
			w.about(func(s *storage.CSIDriverSpec) { s.VolumeLifecycleModes = s.VolumeLifecycleModes[:1] })
		}, func(w *world) *pod.CSIVolume { return w.inline("u") },
			`kubernetes.io/csi: mounter.SetupAt failed to check volume lifecycle mode: volume mode "Ephemeral" not supported by driver test.csi.nodelet (only supports ["Persistent"])`},
		{"no secret", nil, func(w *world) *pod.CSIVolume {
			return w.persistent("u", func(pv *v1.PersistentVolume) {
				pv.Spec.CSI.NodePublishSecretRef = &v1.SecretReference{Namespace: "ns", Name: "s"}
			})
		}, `fetching NodePublishSecretRef ns/s failed: kubernetes.io/csi: failed to find the secret s in the namespace ns with error: secrets "s" not found`},
		{"no stage secret", nil, func(w *world) *pod.CSIVolume {
			return w.persistent("u", func(pv *v1.PersistentVolume) {
				pv.Spec.CSI.NodeStageSecretRef = &v1.SecretReference{Namespace: "ns", Name: "s"}
			})
		}, `MountDevice: fetching NodeStageSecretRef ns/s failed: kubernetes.io/csi: failed to find the secret s in the namespace ns with error: secrets "s" not found`},
		{"no API server", func(w *world) { w.down = no }, nil, "kubernetes.io/csi: mounter.SetUpAt failed to get CSIDriver test.csi.nodelet: no"},
		{"no attachment", func(w *world) { delete(w.drivers, driverName) }, nil, "timed out waiting for the condition"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.about(nil)
			d := w.driver(stages)
			if test.with != nil {
				test.with(w)
			}
			v := w.persistent("u")
			if test.volume != nil {
				v = test.volume(w)
			}
			_, err := w.Publish(t.Context(), v)
			if got := words(err); got != test.want {
				t.Errorf("%s\nwant %s", got, test.want)
			}
			w.mustUnpublish("u")
			if calls := d.Methods(); calls != "" {
				t.Errorf("calls %s", calls)
			}
			w.wantClean()
		})
	}
}

// words are an error's, with the step.
func words(err error) string {
	if err == nil {
		return ""
	}
	if step := (*stepError)(nil); errors.As(err, &step) {
		return step.Step() + ": " + err.Error()
	}
	return err.Error()
}

// What a driver refuses leaves nothing to be undone; what may have been done after
// all is undone.
func TestRefused(t *testing.T) {
	for _, test := range []struct {
		method string
		code   codes.Code
		want   string
	}{
		{"NodeStageVolume", codes.InvalidArgument, "NodeStageVolume"},
		{"NodeStageVolume", codes.DeadlineExceeded, "NodeStageVolume NodeUnpublishVolume NodeUnstageVolume"},
		{"NodePublishVolume", codes.InvalidArgument, "NodeStageVolume NodePublishVolume NodeUnstageVolume"},
		{"NodePublishVolume", codes.Aborted, "NodeStageVolume NodePublishVolume NodeUnpublishVolume NodeUnstageVolume"},
	} {
		t.Run(test.method+" "+test.code.String(), func(t *testing.T) {
			w := newWorld(t)
			w.about(nil)
			d := w.driver(stages)
			w.run()
			d.Fail(test.method, status.Error(test.code, "no"))
			_, err := w.Publish(t.Context(), w.persistent("u"))
			want := fmt.Sprintf("rpc error: code = %s desc = no", test.code)
			if test.method == "NodeStageVolume" {
				want = "MountDevice: " + want
			}
			if got := words(err); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			w.mustUnpublish("u")
			w.eventually("all is undone", func() error {
				if got := d.Methods(); got != test.want || len(w.unused()) > 0 {
					return fmt.Errorf("calls %s, want %s", got, test.want)
				}
				return nil
			})
			w.end()
			w.wantClean()
		})
	}
}

// A volume that is in use stays when a further call for it is refused.
func TestRefusedAgain(t *testing.T) {
	w := newWorld(t)
	w.about(nil)
	d := w.driver(stages)
	v := w.persistent("u")
	w.mustPublish(v)
	d.Fail("NodePublishVolume", status.Error(codes.InvalidArgument, "no"))
	if _, err := w.Publish(t.Context(), v); err == nil {
		t.Fatal("no error")
	}
	if len(w.mounts()) != 2 {
		t.Errorf("mounts %q", w.mounts())
	}
	w.mustUnpublish("u")
	w.wantClean()
}

// A call that hangs ends with its pod, and what may have come of it is undone.
func TestHangs(t *testing.T) {
	w := newWorld(t)
	w.about(nil)
	d := w.driver(stages)
	w.config.CallTimeout = 50 * time.Millisecond
	release := d.Hang("NodePublishVolume")
	_, err := w.Publish(t.Context(), w.persistent("u"))
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("%v", err)
	}
	release()
	w.config.CallTimeout = 5 * time.Second
	// The driver is at it still.
	w.eventually("nothing is left", func() error {
		if err := w.Unpublish(t.Context(), "u"); err != nil {
			return err
		}
		if m := w.mounts(); len(m) > 0 {
			return fmt.Errorf("mounted: %q", m)
		}
		return nil
	})
}

// A driver that cannot unstage does not hold up the pod; it is called until it can.
func TestUnstagedLater(t *testing.T) {
	w := newWorld(t)
	w.about(nil)
	d := w.driver(stages)
	w.run()
	w.mustPublish(w.persistent("u"))
	d.Fail("NodeUnstageVolume", status.Error(codes.Internal, "no"))
	w.mustUnpublish("u")
	if len(w.mounts()) != 1 {
		t.Errorf("mounts %q", w.mounts())
	}
	d.Fail("NodeUnstageVolume", nil)
	w.eventually("it is unstaged", func() error {
		if m := w.mounts(); len(m) > 0 || len(w.unused()) > 0 {
			return fmt.Errorf("mounted: %q", m)
		}
		return nil
	})
	w.end()
	w.wantClean()
}

// A driver that leaves its mount is not believed, and nothing in it is lost.
func TestStillMounted(t *testing.T) {
	w := newWorld(t)
	w.about(nil)
	d := w.driver()
	v := w.persistent("u")
	w.mustPublish(v)
	file := filepath.Join(v.Target, "f")
	if err := os.WriteFile(file, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.removeMount(v.Target); err == nil || !strings.Contains(err.Error(), "still mounted") {
		t.Errorf("%v", err)
	}
	if err := bindAgain(v.Target); err != nil {
		t.Fatal(err)
	}
	// One of two mounts of one above the other goes with each call.
	err := w.Unpublish(t.Context(), "u")
	if err == nil || !strings.Contains(err.Error(), "still mounted") && !strings.Contains(err.Error(), "busy") {
		t.Errorf("%v", err)
	}
	w.mustUnpublish("u")
	w.wantClean()
	if data, err := os.ReadFile(filepath.Join(w.root, "data", handle, "f")); err != nil || string(data) != "data" {
		t.Errorf("the volume has %q, %v; calls %s", data, err, d.Methods())
	}
}

// A volume for one pod is not given to another.
func TestOnePod(t *testing.T) {
	w := newWorld(t)
	w.about(nil)
	w.driver(stages)
	one := func(pv *v1.PersistentVolume) {
		pv.Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.ReadWriteOncePod}
	}
	w.mustPublish(w.persistent("a", one))
	w.mustPublish(w.persistent("a", one))
	if _, err := w.Publish(t.Context(), w.persistent("b", one)); !errors.Is(err, errOnePod) {
		t.Errorf("%v", err)
	}
	w.mustUnpublish("a")
	w.mustPublish(w.persistent("b", one))
	w.mustUnpublish("b")
	w.wantClean()
}

// Whatever the last step was before an agent was killed, the next one finds all that
// it must undo, and can go on with it as well.
func TestKilled(t *testing.T) {
	killed := errors.New("killed")
	for _, kind := range []string{"persistent", "inline"} {
		for _, goOn := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, goes on %v", kind, goOn), func(t *testing.T) {
				w := newWorld(t)
				w.about(nil)
				d := w.driver(stages)
				volume := func() *pod.CSIVolume {
					if kind == "inline" {
						return w.inline("u")
					}
					return w.persistent("u")
				}
				steps := 0
				for at, died := 0, true; died; at++ {
					died = false
					left := at
					var last string
					w.step = func(what string) error {
						if died || left == 0 {
							died = true
							return killed
						}
						left--
						last = what
						return nil
					}
					_, err := w.Publish(t.Context(), volume())
					if err == nil {
						err = w.Unpublish(t.Context(), "u")
					}
					if err != nil && !errors.Is(err, killed) {
						t.Fatalf("after %q: %v", last, err)
					}
					w.restart()
					w.knows(d)
					if goOn {
						w.mustPublish(volume())
					}
					w.mustUnpublish("u")
					w.run()
					w.eventually("nothing is mounted after "+last, func() error {
						if m := w.mounts(); len(m) > 0 || len(w.unused()) > 0 {
							return fmt.Errorf("mounted: %q", m)
						}
						return nil
					})
					w.end()
					w.wantClean()
					steps = at
					w.restart()
					w.knows(d)
				}
				if steps < 8 {
					t.Errorf("only %d steps", steps)
				}
				t.Logf("%d steps", steps)
			})
		}
	}
}

// An agent that was killed is not the only one that may have left something.
func TestForeign(t *testing.T) {
	w := newWorld(t)
	w.about(nil)
	d := w.driver()
	dir := filepath.Join(w.volumesDir("u"), "broken")
	if err := os.MkdirAll(filepath.Join(dir, "mount"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, dataFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(w.stagedDir(), "pv", "pv-1")
	if err := (&volumeData{Driver: driverName, Handle: handle}).save(old); err != nil {
		t.Fatal(err)
	}
	w.mustUnpublish("u")
	if keys := w.unused(); len(keys) > 0 {
		t.Errorf("to be unstaged: %v", keys)
	}
	if calls := d.Methods(); calls != "" {
		t.Errorf("calls %s", calls)
	}
	for _, dir := range []string{dir, old} {
		if _, err := os.Stat(filepath.Join(dir, dataFile)); err != nil {
			t.Error("what is not the agent's was removed")
		}
	}
	w.wantInUse()
	for _, uid := range []pod.UID{"", "..", "a/b", "."} {
		if err := w.Unpublish(t.Context(), uid); err == nil {
			t.Errorf("UID %q: no error", uid)
		}
	}
}

func TestNeedsGroup(t *testing.T) {
	group := int64(1)
	rwo, rwx := v1.ReadWriteOnce, v1.ReadWriteMany
	const (
		file = storage.FileFSGroupPolicy
		none = storage.NoneFSGroupPolicy
		auto = storage.ReadWriteOnceWithFSTypeFSGroupPolicy
	)
	for _, test := range []struct {
		policy   storage.FSGroupPolicy
		group    *int64
		readOnly bool
		fsType   string
		mode     v1.PersistentVolumeAccessMode
		inline   bool
		want     bool
	}{
		{file, &group, false, "", rwx, false, true},
		{file, nil, false, "", rwx, false, false},
		{file, &group, true, "", rwx, false, false},
		{none, &group, false, "ext4", rwo, false, false},
		{auto, &group, false, "ext4", rwo, false, true},
		{auto, &group, false, "ext4", v1.ReadWriteOncePod, false, true},
		{auto, &group, false, "ext4", rwx, false, false},
		{auto, &group, false, "", rwo, false, false},
		{auto, &group, false, "ext4", "", true, true},
		{auto, &group, false, "", "", true, false},
	} {
		s := &source{mode: storage.VolumeLifecyclePersistent, fsGroup: test.group, readOnly: test.readOnly, fsType: test.fsType,
			accessModes: []v1.PersistentVolumeAccessMode{test.mode}}
		if test.inline {
			s.mode, s.accessModes = storage.VolumeLifecycleEphemeral, nil
		}
		if got := s.needsGroup(test.policy); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

func TestAccessModes(t *testing.T) {
	for _, test := range []struct {
		mode          v1.PersistentVolumeAccessMode
		plain, detail spec.VolumeCapability_AccessMode_Mode
	}{
		{v1.ReadWriteOnce, single, spec.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER},
		{v1.ReadWriteOncePod, single, spec.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER},
		{v1.ReadOnlyMany, spec.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY, spec.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY},
		{v1.ReadWriteMany, spec.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER, spec.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER},
	} {
		if got := accessMode(test.mode, false); got != test.plain {
			t.Errorf("%s: %s", test.mode, got)
		}
		if got := accessMode(test.mode, true); got != test.detail {
			t.Errorf("%s in detail: %s", test.mode, got)
		}
	}
}

// Drivers are asked rarely whether they want to be called again.
func TestRepublishes(t *testing.T) {
	w := newWorld(t)
	yes := true
	w.about(func(s *storage.CSIDriverSpec) { s.RequiresRepublish = &yes })
	in := &v1.CSIVolumeSource{Driver: driverName}
	if !w.Republishes(t.Context(), in, nil) {
		t.Error("not republished")
	}
	w.mu.Lock()
	w.down = errors.New("down")
	w.mu.Unlock()
	if !w.Republishes(t.Context(), in, nil) {
		t.Error("not republished from memory")
	}
	pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}}
	pv.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: "another"}
	if w.Republishes(t.Context(), nil, pv) {
		t.Error("one that cannot be asked is republished")
	}
}

// bindAgain mounts what is at a path there once more.
func bindAgain(path string) error { return unix.Mount(path, path, "", unix.MS_BIND, "") }
