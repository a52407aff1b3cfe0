//go:build linux

package csi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/csitest"
)

// registering is a driver of the world that has not been started.
func (w *world) registering(change func(*csitest.Config)) *csitest.Driver {
	config := csitest.Config{Name: driverName, Root: w.root, Data: filepath.Join(w.root, "data"), NodeID: "id-1", MaxVolumes: 5,
		Topology: map[string]string{"topology.test/zone": "a"}}
	if change != nil {
		change(&config)
	}
	d := csitest.New(config)
	w.t.Cleanup(d.Stop)
	return d
}

func (w *world) start(d *csitest.Driver) {
	w.t.Helper()
	if err := d.Start(); err != nil {
		w.t.Fatal(err)
	}
}

// told expects the next thing that the driver is told, "" for that it has
// registered.
func (w *world) told(d *csitest.Driver, want string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	notice, err := d.Notice(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	if notice.Error != want || notice.PluginRegistered != (want == "") {
		w.t.Errorf("told %v, want %q", notice, want)
	}
}

// objects are what the API server has of the node.
func (w *world) objects() ([]storage.CSINodeDriver, *v1.Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.csiNode == nil {
		return nil, w.node
	}
	return w.csiNode.Spec.Drivers, w.node
}

// has expects the drivers that the API server comes to know of.
func (w *world) has(annotation string, want ...storage.CSINodeDriver) {
	w.t.Helper()
	w.eventually("the API server knows", func() error {
		drivers, node := w.objects()
		if !apiequality.Semantic.DeepEqual(drivers, want) || node.Annotations[nodeIDAnnotation] != annotation {
			return fmt.Errorf("it has %+v, %q", drivers, node.Annotations)
		}
		return nil
	})
}

// A driver is known for as long as its socket is there.
func TestRegister(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.eventually("there is a CSINode", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.csiNode == nil {
			return errors.New("there is none")
		}
		owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: nodeName, UID: "node-1"}
		if len(w.csiNode.OwnerReferences) != 1 || w.csiNode.OwnerReferences[0] != owner || len(w.csiNode.Spec.Drivers) > 0 {
			t.Fatalf("%+v", w.csiNode)
		}
		return nil
	})
	five := int32(5)
	entry := storage.CSINodeDriver{Name: driverName, NodeID: "id-1", TopologyKeys: []string{"topology.test/zone"},
		Allocatable: &storage.VolumeNodeResources{Count: &five}}
	other := storage.CSINodeDriver{Name: "other.csi", NodeID: "id-2"}

	d := w.registering(nil)
	for range 3 {
		w.start(d)
		w.told(d, "")
		w.has(`{"test.csi.nodelet":"id-1"}`, entry)
		second := w.registering(func(c *csitest.Config) { c.Name, c.NodeID, c.MaxVolumes, c.Topology = "other.csi", "id-2", 0, nil })
		w.start(second)
		w.told(second, "")
		w.has(`{"other.csi":"id-2","test.csi.nodelet":"id-1"}`, entry, other)
		d.Stop()
		w.has(`{"other.csi":"id-2"}`, other)
		second.Stop()
		w.has("")
	}
	if _, node := w.objects(); !maps.Equal(node.Labels, map[string]string{"topology.test/zone": "a"}) {
		t.Errorf("labels %v", node.Labels)
	}
	w.start(d)
	w.told(d, "")
	// The agent's end is not the driver's.
	w.end()
	w.has(`{"test.csi.nodelet":"id-1"}`, entry)
	// Nor is it news when the next agent finds it.
	before := w.versions
	w.restart()
	w.run()
	w.told(d, "")
	if w.versions != before {
		t.Errorf("the CSINode was written again")
	}
}

// A socket that was put in place of another is another one, though the one before
// is still listened on.
func TestReplacedSocket(t *testing.T) {
	w := newWorld(t)
	w.run()
	d := w.registering(nil)
	w.start(d)
	w.told(d, "")
	if err := os.Remove(d.RegistrationSocket()); err != nil {
		t.Fatal(err)
	}
	next := w.registering(func(c *csitest.Config) { c.NodeID, c.MaxVolumes = "id-2", 0 })
	w.start(next)
	w.told(next, "")
	w.has(`{"test.csi.nodelet":"id-2"}`, storage.CSINodeDriver{Name: driverName, NodeID: "id-2", TopologyKeys: []string{"topology.test/zone"}})
}

func TestRegisterRefused(t *testing.T) {
	const failed = "RegisterPlugin error -- plugin registration failed with err: "
	for _, test := range []struct {
		name   string
		config func(*csitest.Config)
		want   func(d *csitest.Driver) string
	}{
		{"another type", func(c *csitest.Config) { c.Type = "DevicePlugin" }, func(d *csitest.Driver) string {
			return "RegisterPlugin error -- no handler registered for plugin type: DevicePlugin at socket " + d.RegistrationSocket()
		}},
		{"no version", func(c *csitest.Config) { c.Versions = []string{} }, func(d *csitest.Driver) string {
			return "RegisterPlugin error -- plugin validation failed with err: validation failed for CSI Driver test.csi.nodelet at endpoint " + d.Socket() +
				`: kubernetes.io/csi: ValidatePlugin for CSI driver "test.csi.nodelet" failed. Plugin returned an empty list for supported versions`
		}},
		{"a version to come", func(c *csitest.Config) { c.Versions = []string{"2.0.0"} }, func(d *csitest.Driver) string {
			return "RegisterPlugin error -- plugin validation failed with err: validation failed for CSI Driver test.csi.nodelet at endpoint " + d.Socket() +
				`: kubernetes.io/csi: ValidatePlugin for CSI driver "test.csi.nodelet" failed. None of the versions specified ["2.0.0"] are supported. ` +
				`err=could not find a highest supported version from versions ([2.0.0]) reported: <nil>`
		}},
		{"no node ID", func(c *csitest.Config) { c.NodeID = "" }, func(*csitest.Driver) string {
			return failed + "error adding CSI driver node info: driverNodeID must not be empty"
		}},
		{"elsewhere", func(c *csitest.Config) { c.Topology = map[string]string{"zone": "b"} }, func(*csitest.Driver) string {
			return failed + `error updating Node object with CSI driver node info: detected topology value collision: driver reported "zone":"b" but existing label is "zone":"a"`
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.node.Labels = map[string]string{"zone": "a"}
			w.run()
			d := w.registering(test.config)
			w.start(d)
			// It is tried again.
			w.told(d, test.want(d))
			w.told(d, test.want(d))
			if w.Manager.known(driverName) {
				t.Error("the driver is known")
			}
			if drivers, _ := w.objects(); len(drivers) > 0 {
				t.Errorf("drivers %+v", drivers)
			}
		})
	}
}

// While the API server cannot be told of a driver, its volumes can be seen to.
func TestRegisterWithoutAPI(t *testing.T) {
	w := newWorld(t)
	w.about(nil)
	w.down = errors.New("down")
	w.run()
	d := w.registering(nil)
	w.start(d)
	w.eventually("the driver is known", func() error {
		if !w.Manager.known(driverName) {
			return errors.New("it is not")
		}
		return nil
	})
	w.mustUnpublish("u")
	w.mu.Lock()
	w.down = nil
	w.mu.Unlock()
	w.told(d, "")
	w.mustPublish(w.persistent("u"))
}

// A plugin that cannot be told is not registered, and nobody else is told of it.
func TestNotTold(t *testing.T) {
	w := newWorld(t)
	w.run()
	d := w.registering(func(c *csitest.Config) { c.Topology = nil })
	d.Fail("NotifyRegistrationStatus", errors.New("no"))
	w.start(d)
	w.eventually("the driver was known, and is not", func() error {
		drivers, node := w.objects()
		w.mu.Lock()
		defer w.mu.Unlock()
		// It is made, and written with the driver and without.
		if w.versions < 3 || len(drivers) > 0 || node.Annotations[nodeIDAnnotation] != "" {
			return fmt.Errorf("version %d: %+v, %q", w.versions, drivers, node.Annotations)
		}
		return nil
	})
	d.Fail("NotifyRegistrationStatus", nil)
	w.told(d, "")
}

// What is told late of a driver that is gone does not hide that it is back.
func TestGoneAndBack(t *testing.T) {
	w := newWorld(t)
	five := int32(5)
	entry := storage.CSINodeDriver{Name: driverName, NodeID: "id", TopologyKeys: []string{}, Allocatable: &storage.VolumeNodeResources{Count: &five}}
	if err := w.install(t.Context(), &info{driver: driverName, nodeID: "id", maxVolumes: 5}); err != nil {
		t.Fatal(err)
	}
	w.setDriver(&driver{name: driverName})
	if err := w.uninstall(t.Context(), driverName); err != nil {
		t.Fatal(err)
	}
	w.has(`{"test.csi.nodelet":"id"}`, entry)
	w.dropDriver(w.Manager.drivers[driverName])
	if err := w.uninstall(t.Context(), driverName); err != nil {
		t.Fatal(err)
	}
	w.has("")
}

// The CSINode of a Node of this name that is gone is not taken over.
func TestForeignCSINode(t *testing.T) {
	w := newWorld(t)
	w.csiNode = &storage.CSINode{ObjectMeta: metav1.ObjectMeta{Name: nodeName, OwnerReferences: []metav1.OwnerReference{
		{APIVersion: "v1", Kind: "Node", Name: nodeName, UID: "before"}}},
		Spec: storage.CSINodeSpec{Drivers: []storage.CSINodeDriver{{Name: "old", NodeID: "x"}}}}
	w.run()
	w.has("")
}

// A driver may replace one of its name only with a newer version.
func TestSameName(t *testing.T) {
	w := newWorld(t)
	w.run()
	d := w.registering(nil)
	w.start(d)
	w.told(d, "")
	if _, err := w.checkVersions(driverName, []string{"1.0.0"}); err == nil ||
		err.Error() != `kubernetes.io/csi: ValidatePlugin for CSI driver "test.csi.nodelet" failed. Another driver with the same name is already registered with a higher supported version: "1.0.0"` {
		t.Errorf("%v", err)
	}
	if v, err := w.checkVersions(driverName, []string{"0.3.0", "1.1.0"}); err != nil || v.String() != "1.1.0" {
		t.Errorf("%v, %v", v, err)
	}
}
