package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
)

// callTimeout bounds one call: the other mirrors wait for it.
const callTimeout = 10 * time.Second

// Run keeps the mirrors until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		for _, name := range k.take(time.Now()) {
			if ctx.Err() == nil {
				k.keep(ctx, name)
			}
		}
		if next := k.nextRetry(); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take returns the names to look at now. Nothing is looked at before it is known
// which mirrors there are.
func (k *Keeper) take(now time.Time) []types.NamespacedName {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.synced {
		return nil
	}
	for name, r := range k.retries {
		if !r.at.After(now) {
			k.dirty[name] = true
		}
	}
	var names []types.NamespacedName
	for name := range k.dirty {
		// What failed just now is not tried again because something happened.
		if r, failed := k.retries[name]; !failed || !r.at.After(now) {
			names = append(names, name)
		}
	}
	clear(k.dirty)
	return names
}

// nextRetry is when the next name is to be tried again, zero for never.
func (k *Keeper) nextRetry() (next time.Time) {
	for _, r := range k.retries {
		if next.IsZero() || r.at.Before(next) {
			next = r.at
		}
	}
	return next
}

// keep brings the mirror of one name to what it is to be.
func (k *Keeper) keep(ctx context.Context, name types.NamespacedName) {
	err := k.tryKeep(ctx, name)
	if err == nil {
		delete(k.retries, name)
		return
	}
	if ctx.Err() != nil {
		return
	}
	delay := min(max(2*k.retries[name].delay, firstRetry), lastRetry)
	k.retries[name] = retry{delay, time.Now().Add(delay)}
	k.Log.Warn("Could not keep a mirror pod", "pod", name.String(), "err", err, "retry", delay)
}

func (k *Keeper) tryKeep(ctx context.Context, name types.NamespacedName) error {
	static := k.Desired.Static(name)
	k.mu.Lock()
	mirror := k.mirrors[name]
	k.mu.Unlock()
	switch {
	case mirror == nil:
	case static != nil && pod.Mirrors(mirror, static) && mirror.DeletionTimestamp == nil:
		k.Desired.SetMirror(pod.UID(static.UID), pod.MirrorUID(mirror.UID))
		return nil
	case static == nil && !k.Desired.Ready():
		// Perhaps a source that was not heard yet has the static pod.
		return nil
	default:
		if err := k.delete(ctx, mirror); err != nil {
			return err
		}
	}
	if static == nil {
		return nil
	}
	k.Desired.SetMirror(pod.UID(static.UID), "")
	mirror, err := k.create(ctx, static)
	if err != nil {
		return err
	}
	k.Desired.SetMirror(pod.UID(static.UID), pod.MirrorUID(mirror.UID))
	return nil
}

// delete deletes a mirror at once: what it shows is not ended by that.
func (k *Keeper) delete(ctx context.Context, mirror *v1.Pod) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := k.API.DeletePod(ctx, mirror.Namespace, mirror.Name, mirror.UID, 0)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forget(mirror)
	return nil
}

// create makes the mirror of a static pod.
func (k *Keeper) create(ctx context.Context, static *v1.Pod) (*v1.Pod, error) {
	n := k.Node()
	if n == nil || n.UID == "" {
		return nil, errors.New("creating the mirror pod: the node, which is to own it, is not registered")
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	mirror, err := k.API.CreatePod(ctx, of(static, n))
	if err != nil {
		return nil, err
	}
	if !pod.Mirrors(mirror, static) {
		// Some admission webhook's work; it would be deleted and made for ever.
		return nil, fmt.Errorf("the API server made another pod of the mirror pod: annotations %v", mirror.Annotations)
	}
	k.Set(mirror)
	return mirror, nil
}

// of returns the mirror of a static pod as it is created. A node may create no
// other pods than ones of this kind, owned by itself.
func of(static *v1.Pod, n *v1.Node) *v1.Pod {
	controller := true
	mirror := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: static.Name, Namespace: static.Namespace, Labels: static.Labels,
			Annotations: maps.Clone(static.Annotations),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID,
				Controller: &controller}},
		},
		Spec: static.Spec,
	}
	metav1.SetMetaDataAnnotation(&mirror.ObjectMeta, pod.AnnotationMirror, static.Annotations[pod.AnnotationHash])
	return mirror
}
