//go:build linux

package csi

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	inUse      = "kubernetes.io/csi/test.csi.nodelet^vol-1"
	attachment = "csi-3b8a694f6a55ce76e29a28d7c394609087abcdd763b9af5a38d16e8eb1f5c8eb"
)

// attach has the Node and the attachment say that the volume is attached.
func (w *world) attach(status storage.VolumeAttachmentStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.node = w.node.DeepCopy()
	w.node.Status.VolumesInUse = []v1.UniqueVolumeName{inUse}
	w.node.Status.VolumesAttached = []v1.AttachedVolume{{Name: inUse}}
	w.attachments[attachment] = &storage.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: attachment}, Status: status}
}

// wantInUse expects what the Node is to have in use.
func (w *world) wantInUse(want ...v1.UniqueVolumeName) {
	w.t.Helper()
	if got, known := w.InUse(); !known || !slices.Equal(got, want) {
		w.t.Errorf("in use %q, %v, want %q", got, known, want)
	}
}

// A volume that must be attached is mounted once it is, and the Node has it in use
// from before that until it is unstaged.
func TestAttached(t *testing.T) {
	w := newWorld(t)
	d := w.driver(stages)
	w.config.AttachPatience = 20 * time.Second
	w.wantInUse()
	done := make(chan error)
	go func() {
		_, err := w.Publish(t.Context(), w.persistent("u"))
		done <- err
	}()
	w.eventually("it is in use", func() error {
		if got, known := w.InUse(); !known || len(got) == 0 {
			return fmt.Errorf("%q, %v", got, known)
		}
		return nil
	})
	w.wantInUse(inUse)
	if calls := d.Methods(); calls != "" {
		t.Errorf("calls %s", calls)
	}
	if w.reports == 0 {
		t.Error("not reported")
	}
	metadata := map[string]string{"device": "sdb"}
	w.attach(storage.VolumeAttachmentStatus{Attached: true, AttachmentMetadata: metadata})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := d.Last("NodeStageVolume").(*spec.NodeStageVolumeRequest).PublishContext; !maps.Equal(got, metadata) {
		t.Errorf("staged with %v", got)
	}
	if got := d.Last("NodePublishVolume").(*spec.NodePublishVolumeRequest).PublishContext; !maps.Equal(got, metadata) {
		t.Errorf("published with %v", got)
	}
	w.wantInUse(inUse)

	// The next agent knows it when it knows what the driver is.
	w.restart()
	w.knows(d)
	if got, known := w.InUse(); known {
		t.Errorf("in use %q", got)
	}
	w.run()
	w.eventually("it is known", func() error {
		if _, known := w.InUse(); !known {
			return errors.New("it is not")
		}
		return nil
	})
	w.wantInUse(inUse)
	w.end()

	d.Fail("NodeUnstageVolume", errors.New("no"))
	w.knows(d)
	w.mustUnpublish("u")
	w.wantInUse(inUse)
	d.Fail("NodeUnstageVolume", nil)
	if err := w.tryUnstage(t.Context(), volumeKey{driverName, handle}); err != nil {
		t.Fatal(err)
	}
	w.wantInUse()
	w.wantClean()
}

func TestNotAttached(t *testing.T) {
	now := metav1.Now()
	for _, test := range []struct {
		name       string
		attachment *storage.VolumeAttachment
		want       string
	}{
		{"none", nil, `volume vol-1 has GET error for volume attachment ` + attachment + `: volumeattachments.storage.k8s.io "` + attachment + `" not found`},
		{"not attached", &storage.VolumeAttachment{}, "volume vol-1 is not attached for volume attachment " + attachment},
		{"failed", &storage.VolumeAttachment{Status: storage.VolumeAttachmentStatus{AttachError: &storage.VolumeError{Message: "no such disk"}}}, "no such disk"},
		{"being deleted", &storage.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}}, "volume attachment is being deleted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			d := w.driver(stages)
			w.attach(storage.VolumeAttachmentStatus{})
			if test.attachment == nil {
				delete(w.attachments, attachment)
			} else {
				w.attachments[attachment] = test.attachment
			}
			_, err := w.Publish(t.Context(), w.persistent("u"))
			if got := words(err); got != "WaitForAttach: "+test.want {
				t.Errorf("%s", got)
			}
			w.wantInUse(inUse)
			w.mustUnpublish("u")
			w.wantInUse()
			if calls := d.Methods(); calls != "" {
				t.Errorf("calls %s", calls)
			}
		})
	}
}

// Attached but not yet in use by the Node's word is not enough: the volume might be
// detached at any time.
func TestAttachedNotInUse(t *testing.T) {
	w := newWorld(t)
	w.driver(stages)
	w.attach(storage.VolumeAttachmentStatus{Attached: true})
	w.node.Status.VolumesInUse = nil
	_, err := w.Publish(t.Context(), w.persistent("u"))
	if _, ok := err.(interface{ Unattached() }); !ok || err.Error() != "timed out waiting for the condition" {
		t.Errorf("%v", err)
	}
}

// Volumes that live with their pods, and those of drivers that attach nothing, are
// never in use in this sense.
func TestNeverAttached(t *testing.T) {
	w := newWorld(t)
	w.about(nil)
	d := w.driver(stages)
	w.mustPublish(w.inline("a"))
	w.mustPublish(w.persistent("b"))
	w.wantInUse()
	w.restart()
	w.knows(d)
	w.run()
	w.eventually("it is known", func() error {
		if _, known := w.InUse(); !known {
			return errors.New("it is not")
		}
		return nil
	})
	w.wantInUse()
}
