package csi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeIDAnnotation has the node's names with its drivers, as a JSON object.
const nodeIDAnnotation = "csi.volume.kubernetes.io/nodeid"

// Delays between two tries of what the API server has not taken.
const (
	firstRetry   = 500 * time.Millisecond
	longestRetry = time.Minute
)

// info is what a driver says of the node.
type info struct {
	driver, nodeID string
	// maxVolumes is how many volumes the node may have of the driver, 0 for any
	// number.
	maxVolumes int64
	topology   map[string]string
}

// invalid is an error that another try will not mend.
type invalid struct{ error }

func (i *invalid) Unwrap() error { return i.error }

// initCSINode makes the CSINode exist, with whatever drivers it has.
func (m *Manager) initCSINode(ctx context.Context) {
	_ = retry(ctx, firstRetry, longestRetry, func() error {
		m.writing.Lock()
		defer m.writing.Unlock()
		node, err := m.API.CurrentNode(ctx, m.config.NodeName)
		if err == nil {
			_, err = m.csiNode(ctx, node)
		}
		if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
			m.Log.Warn("Could not make the CSINode", "err", err)
		}
		return err
	})
}

// csiNode returns the node's CSINode, a new one if there is none or it is that of
// an earlier Node of this name.
func (m *Manager) csiNode(ctx context.Context, node *v1.Node) (*storage.CSINode, error) {
	n, err := m.API.CSINode(ctx, node.Name)
	switch {
	case err == nil && slices.ContainsFunc(n.OwnerReferences, func(o metav1.OwnerReference) bool {
		return o.Kind == "Node" && o.Name == node.Name && o.UID == node.UID
	}):
		return n, nil
	case err == nil:
		if err := m.API.DeleteCSINode(ctx, node.Name); err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
	case !apierrors.IsNotFound(err):
		return nil, err
	}
	return m.API.CreateCSINode(ctx, &storage.CSINode{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}},
		Spec: storage.CSINodeSpec{Drivers: []storage.CSINodeDriver{}},
	})
}

// install tells the API server of a driver: the Node gets its topology and its
// name with the driver, the CSINode the driver.
func (m *Manager) install(ctx context.Context, i *info) error {
	if i.nodeID == "" {
		return &invalid{errors.New("error adding CSI driver node info: driverNodeID must not be empty")}
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	node, err := m.patchNode(ctx, func(n *v1.Node) error {
		if err := setTopology(n, i.topology); err != nil {
			return err
		}
		return setNodeID(n, i.driver, i.nodeID)
	})
	if err != nil {
		return fmt.Errorf("error updating Node object with CSI driver node info: %w", err)
	}
	n, err := m.csiNode(ctx, node)
	if err == nil {
		err = m.setDrivers(ctx, n, func(drivers []storage.CSINodeDriver) []storage.CSINodeDriver {
			return append(without(drivers, i.driver), csiNodeDriver(i))
		})
	}
	if err != nil {
		return fmt.Errorf("error updating CSINode object with CSI driver node info: %w", err)
	}
	return nil
}

// uninstall tells the API server that a driver is gone, unless it is back. The
// node's labels stay: volumes may be bound to them.
func (m *Manager) uninstall(ctx context.Context, name string) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	if m.known(name) {
		return nil
	}
	n, err := m.API.CSINode(ctx, m.config.NodeName)
	if err == nil {
		err = m.setDrivers(ctx, n, func(drivers []storage.CSINodeDriver) []storage.CSINodeDriver { return without(drivers, name) })
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("error uninstalling CSI driver from CSINode object: %w", err)
	}
	if _, err := m.patchNode(ctx, func(n *v1.Node) error { return setNodeID(n, name, "") }); err != nil {
		return fmt.Errorf("error removing CSI driver node info from Node object: %w", err)
	}
	return nil
}

// patchNode changes the Node.
func (m *Manager) patchNode(ctx context.Context, change func(*v1.Node) error) (*v1.Node, error) {
	old, err := m.API.CurrentNode(ctx, m.config.NodeName)
	if err != nil {
		return nil, err
	}
	next := old.DeepCopy()
	if err := change(next); err != nil {
		return nil, &invalid{err}
	}
	if maps.Equal(old.Labels, next.Labels) && maps.Equal(old.Annotations, next.Annotations) {
		return old, nil
	}
	return m.API.PatchNode(ctx, old, next)
}

// setNodeID sets the name that a driver has for the node, "" for none.
func setNodeID(n *v1.Node, driver, id string) error {
	ids := map[string]string{}
	if value := n.Annotations[nodeIDAnnotation]; value != "" {
		if err := json.Unmarshal([]byte(value), &ids); err != nil {
			return fmt.Errorf("failed to parse node's %q annotation value (%q) err=%w", nodeIDAnnotation, value, err)
		}
	}
	if id == "" {
		delete(ids, driver)
	} else {
		ids[driver] = id
	}
	if len(ids) == 0 {
		delete(n.Annotations, nodeIDAnnotation)
		return nil
	}
	value, err := json.Marshal(ids)
	if err == nil {
		metav1.SetMetaDataAnnotation(&n.ObjectMeta, nodeIDAnnotation, string(value))
	}
	return err
}

// setTopology labels the node with where a driver says it is. A label that says
// something else already is an error.
func setTopology(n *v1.Node, topology map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(topology)) {
		value := topology[key]
		if now, ok := n.Labels[key]; ok && now != value {
			return fmt.Errorf("detected topology value collision: driver reported %q:%q but existing label is %q:%q", key, value, key, now)
		}
		metav1.SetMetaDataLabel(&n.ObjectMeta, key, value)
	}
	return nil
}

// setDrivers changes the drivers in the CSINode, where that makes a difference.
func (m *Manager) setDrivers(ctx context.Context, n *storage.CSINode, change func([]storage.CSINodeDriver) []storage.CSINodeDriver) error {
	next := n.DeepCopy()
	next.Spec.Drivers = change(next.Spec.Drivers)
	if sameDrivers(n.Spec.Drivers, next.Spec.Drivers) {
		return nil
	}
	_, err := m.API.UpdateCSINode(ctx, next)
	return err
}

func without(drivers []storage.CSINodeDriver, name string) []storage.CSINodeDriver {
	return slices.DeleteFunc(drivers, func(d storage.CSINodeDriver) bool { return d.Name == name })
}

func csiNodeDriver(i *info) storage.CSINodeDriver {
	d := storage.CSINodeDriver{Name: i.driver, NodeID: i.nodeID, TopologyKeys: slices.Sorted(maps.Keys(i.topology))}
	if i.maxVolumes > 0 {
		count := int32(min(i.maxVolumes, math.MaxInt32))
		d.Allocatable = &storage.VolumeNodeResources{Count: &count}
	}
	return d
}

// sameDrivers compares drivers in any order.
func sameDrivers(a, b []storage.CSINodeDriver) bool {
	byName := func(x, y storage.CSINodeDriver) int { return cmp.Compare(x.Name, y.Name) }
	return slices.EqualFunc(slices.SortedFunc(slices.Values(a), byName), slices.SortedFunc(slices.Values(b), byName),
		func(x, y storage.CSINodeDriver) bool {
			return x.Name == y.Name && x.NodeID == y.NodeID && limit(&x) == limit(&y) &&
				slices.Equal(slices.Sorted(slices.Values(x.TopologyKeys)), slices.Sorted(slices.Values(y.TopologyKeys)))
		})
}

// limit is how many volumes a node may have of a driver, 0 for any number.
func limit(d *storage.CSINodeDriver) int32 {
	if d.Allocatable == nil || d.Allocatable.Count == nil {
		return 0
	}
	return *d.Allocatable.Count
}
