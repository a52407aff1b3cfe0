package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/csitest"
)

// csiVolumes has a pod with a persistent volume of a CSI driver and one that lives
// with the pod. @NS is the namespace, which is the driver's and the volume's name
// too, @ATTACH whether the driver attaches.
const csiVolumes = `
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: "@NS"}
spec:
  attachRequired: @ATTACH
  podInfoOnMount: true
  fsGroupPolicy: File
  volumeLifecycleModes: [Persistent, Ephemeral]
---
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 77}
  containers:
  - name: c
    image: e2e.test/app:1
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: data, mountPath: /ro, readOnly: true}
    - {name: data, mountPath: /sub, subPath: deep/er}
    - {name: scratch, mountPath: /scratch}
  volumes:
  - {name: data, persistentVolumeClaim: {claimName: data}}
  - {name: scratch, csi: {driver: "@NS"}}
`

// csiDriver starts a driver of the namespace's name, which stages volumes, and
// applies csiVolumes.
func (c *cluster) csiDriver(t *testing.T, ns, attach string) (d *csitest.Driver, data string) {
	t.Helper()
	data = t.TempDir()
	d = csitest.New(csitest.Config{Name: ns, Root: c.path("kubelet"), Data: data, NodeID: "e2e-node", MaxVolumes: 7,
		Topology: map[string]string{"topology.e2e.test/rack": "r1"}, Can: []spec.NodeServiceCapability_RPC_Type{
			spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME}})
	if err := os.MkdirAll(filepath.Join(data, ns), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, ns, "f"), []byte("of the driver"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	t.Cleanup(func() {
		c.kubectl(t, "", "delete", "--ignore-not-found", "--wait=false", "pv/"+ns, "csidriver/"+ns)
		// The driver stays until it was called for the last time.
		c.startAgent(t)
		c.eventually(t, "the driver's volumes are gone", time.Minute, func(ctx context.Context) error {
			_ = c.kube.CoreV1().Pods(ns).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
			return c.notMounted(ns)
		})
	})
	c.apply(t, ns, strings.NewReplacer("@NS", ns, "@ATTACH", attach).Replace(csiVolumes+
		claimed("@NS", "data", "", `claimRef: {namespace: "@NS", name: data}`, `csi: {driver: "@NS", volumeHandle: "@NS"}`)))
	return d, data
}

// notMounted is an error while a driver has a global mount.
func (c *cluster) notMounted(driver string) error {
	left, err := filepath.Glob(c.path("kubelet/plugins/kubernetes.io/csi/" + driver + "/*/*"))
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("left: %q", left)
	}
	return err
}

// A real process reads and writes volumes that a CSI driver mounts, also over the
// agent's death; at its end they are unmounted, and the driver is told.
func TestCSI(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "csi")
	d, data := c.csiDriver(t, ns, "false")
	p := c.ready(t, ns, "app=p", 1)[0]
	in := c.inside(t, &p, "c")
	c.showsDriver(t, ns)

	in.reads("/data/f", "of the driver")
	in.reads("/ro/f", "of the driver")
	in.stats("/data", "2775 0 77")
	for _, file := range []string{"/data/new", "/sub/f", "/scratch/f"} {
		in.writes(file, "")
		in.stats(file, "644 1000 77")
	}
	in.writes("/ro/g", "read-only file system")
	in.reads("/data/deep/er/f", "written")
	var kinds []string
	for _, call := range d.Calls() {
		if request, ok := call.Request.(*spec.NodePublishVolumeRequest); ok {
			kinds = append(kinds, request.VolumeContext["csi.storage.k8s.io/ephemeral"])
			if request.VolumeContext["csi.storage.k8s.io/pod.uid"] != string(p.UID) {
				t.Errorf("published with %v", request.VolumeContext)
			}
		}
	}
	if slices.Sort(kinds); !slices.Equal(kinds, []string{"false", "true"}) {
		t.Errorf("published are volumes that are ephemeral: %q", kinds)
	}

	// The next agent finds what the one before has mounted.
	c.agent.kill()
	before := strings.Count(d.Methods(), "NodePublishVolume")
	c.startAgent(t)
	c.eventually(t, "the driver is called again", 20*time.Second, func(context.Context) error {
		if n := strings.Count(d.Methods(), "NodePublishVolume"); n < before+2 {
			return fmt.Errorf("%d calls to publish, %d before", n, before)
		}
		return nil
	})
	in.reads("/data/new", "written")
	in.writes("/scratch/g", "")
	// A pod that ended while there was no agent is cleaned up as well.
	c.agent.kill()
	zero := int64(0)
	if err := c.kube.CoreV1().Pods(ns).Delete(t.Context(), "p", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	c.startAgent(t)
	c.eventually(t, "nothing is left", 30*time.Second, func(context.Context) error {
		if err := c.nothingLeft(c.path("kubelet/pods/" + string(p.UID))); err != nil {
			return err
		}
		return c.notMounted(ns)
	})
	// Each agent stages once; all is undone once, in this order.
	calls := d.Methods()
	if strings.Count(calls, "NodeStageVolume") != 2 || strings.Count(calls, "NodeUnpublishVolume") != 2 ||
		strings.Count(calls, "NodeUnstageVolume") != 1 || !strings.HasSuffix(calls, "NodeUnpublishVolume NodeUnstageVolume NodeUnpublishVolume") {
		t.Errorf("calls %s", calls)
	}
	for file, want := range map[string]string{"f": "of the driver", "new": "written", "deep/er/f": "written"} {
		if got, err := os.ReadFile(filepath.Join(data, ns, file)); err != nil || string(got) != want {
			t.Errorf("the volume's %s has %q, %v", file, got, err)
		}
	}
	if left, err := os.ReadDir(data); err != nil || len(left) != 1 {
		t.Errorf("the driver has %v, %v", left, err)
	}
	d.Stop()
	c.eventually(t, "the driver is gone from the CSINode", 20*time.Second, func(ctx context.Context) error {
		n, err := c.kube.StorageV1().CSINodes().Get(ctx, nodeName, metav1.GetOptions{})
		if err == nil && len(n.Spec.Drivers) > 0 {
			err = fmt.Errorf("it has %+v", n.Spec.Drivers)
		}
		return err
	})
}

// showsDriver expects the API server to have the driver of the node, as kubectl
// shows it.
func (c *cluster) showsDriver(t *testing.T, driver string) {
	t.Helper()
	if out := strings.Fields(c.kubectl(t, "", "get", "csinode", nodeName, "--no-headers")); len(out) < 2 || out[0] != nodeName || out[1] != "1" {
		t.Errorf("kubectl get csinode: %q", out)
	}
	out := c.kubectl(t, "", "get", "csinode", nodeName, "-o", "jsonpath={.spec.drivers}")
	if want := fmt.Sprintf(`[{"allocatable":{"count":7},"name":%q,"nodeID":"e2e-node","topologyKeys":["topology.e2e.test/rack"]}]`, driver); out != want {
		t.Errorf("CSINode has %s, want %s", out, want)
	}
	node, err := c.kube.CoreV1().Nodes().Get(t.Context(), nodeName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := node.Annotations["csi.volume.kubernetes.io/nodeid"], fmt.Sprintf(`{%q:"e2e-node"}`, driver); got != want || node.Labels["topology.e2e.test/rack"] != "r1" {
		t.Errorf("the Node has annotation %s, want %s, and labels %v", got, want, node.Labels)
	}
	if len(node.Status.VolumesInUse) > 0 {
		t.Errorf("volumes in use %q", node.Status.VolumesInUse)
	}
}

// A volume that must be attached is mounted once the controllers have attached it,
// and not detached before it is unstaged. The test is the driver's attacher.
func TestCSIAttached(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "csi-attach")
	d, _ := c.csiDriver(t, ns, "true")
	attachment := c.attachment(t, ns)
	name := v1.UniqueVolumeName("kubernetes.io/csi/" + ns + "^" + ns)
	c.eventually(t, "the volume is in use", 30*time.Second, func(ctx context.Context) error { return c.inUse(ctx, name, true) })
	if calls := d.Methods(); strings.Contains(calls, "NodeStageVolume") {
		t.Errorf("before it is attached there were %s", calls)
	}
	attachment.Status = storage.VolumeAttachmentStatus{Attached: true, AttachmentMetadata: map[string]string{"device": "sdb"}}
	if _, err := c.kube.StorageV1().VolumeAttachments().UpdateStatus(t.Context(), attachment, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	p := c.ready(t, ns, "app=p", 1)[0]
	c.inside(t, &p, "c").reads("/data/f", "of the driver")
	if got := d.Last("NodeStageVolume").(*spec.NodeStageVolumeRequest).PublishContext; got["device"] != "sdb" {
		t.Errorf("staged with %v", got)
	}
	// The next agent has it in use without a gap.
	c.agent.kill()
	c.startAgent(t)
	if err := c.inUse(t.Context(), name, true); err != nil {
		t.Error(err)
	}
	c.kubectl(t, "", "delete", "pod", "-n", ns, "p")
	c.eventually(t, "the volume is detached", time.Minute, func(ctx context.Context) error {
		_, err := c.kube.StorageV1().VolumeAttachments().Get(ctx, attachment.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("the attachment is there: %v", err)
	})
	if calls := d.Methods(); !strings.Contains(calls, "NodeUnstageVolume") {
		t.Errorf("detached after %s", calls)
	}
	c.eventually(t, "the volume is not in use", 30*time.Second, func(ctx context.Context) error { return c.inUse(ctx, name, false) })
}

// attachment waits for the controllers to want a driver's volume attached.
func (c *cluster) attachment(t *testing.T, driver string) (found *storage.VolumeAttachment) {
	t.Helper()
	c.eventually(t, "there is an attachment", time.Minute, func(ctx context.Context) error {
		list, err := c.kube.StorageV1().VolumeAttachments().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range list.Items {
			if list.Items[i].Spec.Attacher == driver {
				found = &list.Items[i]
				return nil
			}
		}
		return fmt.Errorf("there are %d others", len(list.Items))
	})
	return found
}

// inUse is an error unless the node has a volume in use, or not.
func (c *cluster) inUse(ctx context.Context, name v1.UniqueVolumeName, want bool) error {
	node, err := c.kube.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, one := range node.Status.VolumesInUse {
		if one == name {
			if !want {
				return fmt.Errorf("in use: %q", node.Status.VolumesInUse)
			}
			return nil
		}
	}
	if want {
		return fmt.Errorf("in use: %q", node.Status.VolumesInUse)
	}
	return nil
}
