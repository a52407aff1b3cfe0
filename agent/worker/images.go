package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"nodelet/agent/credentials"
	"nodelet/agent/plan"
	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// wanted is an image that a container cannot do without.
type wanted struct {
	ref    string
	policy v1.PullPolicy
	// container is whose image it is, for the events; empty for that of a volume.
	container string
}

// ensureImages returns the container's image. That one and those of the image volumes
// that it mounts are there, pulled where the pull policy wants it.
func (w *Worker) ensureImages(ctx context.Context, p *v1.Pod, c *v1.Container) (podruntime.Image, *plan.Failure) {
	for _, v := range imageVolumes(p, c) {
		_, failure := w.ensureImage(ctx, p, wanted{ref: v.Reference, policy: v.PullPolicy})
		if failure != nil || ctx.Err() != nil {
			return podruntime.Image{}, failure
		}
	}
	return w.ensureImage(ctx, p, wanted{c.Image, c.ImagePullPolicy, c.Name})
}

// imageVolumes are those that a container mounts.
func imageVolumes(p *v1.Pod, c *v1.Container) (images []*v1.ImageVolumeSource) {
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if v.Image != nil && slices.ContainsFunc(c.VolumeMounts, func(m v1.VolumeMount) bool { return m.Name == v.Name }) {
			images = append(images, v.Image)
		}
	}
	return images
}

// ensureImage returns an image, pulled where the pull policy wants it.
func (w *Worker) ensureImage(ctx context.Context, p *v1.Pod, want wanted) (podruntime.Image, *plan.Failure) {
	image, err := w.Images.Image(ctx, want.ref)
	// They are looked for once, and only where they matter.
	credentials := sync.OnceValue(func() []credentials.Credential { return w.credentials(ctx, p, want.ref) })
	switch {
	case err != nil && !podruntime.IsNotFound(err):
		return podruntime.Image{}, &plan.Failure{Reason: "ImageInspectError",
			Message: fmt.Sprintf("Failed to inspect image %q: %v", want.ref, err)}
	case err == nil && want.policy != v1.PullAlways && w.Pulled.MayUse(want.ref, image, secretsOf(credentials)):
		w.event(p, want.container, v1.EventTypeNormal, eventPulled,
			fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", want.ref))
		return image, nil
	case want.policy == v1.PullNever:
		// Nor is it told that there is one which this pod may not use.
		message := fmt.Sprintf("Container image %q is not present with pull policy of Never", want.ref)
		w.event(p, want.container, v1.EventTypeWarning, eventErrImageNeverPull, message)
		return podruntime.Image{}, &plan.Failure{Reason: "ErrImageNeverPull", Message: message}
	}
	return w.pullImage(ctx, p, want, credentials)
}

// secretsOf returns those of the pod's credentials that are from its secrets.
func secretsOf(all func() []credentials.Credential) func() []kubeletconfig.ImagePullSecret {
	return func() (secrets []kubeletconfig.ImagePullSecret) {
		for _, c := range all() {
			if c.Secret != nil {
				secrets = append(secrets, *c.Secret)
			}
		}
		return secrets
	}
}

func (w *Worker) pullImage(ctx context.Context, p *v1.Pod, want wanted, credentials func() []credentials.Credential) (podruntime.Image, *plan.Failure) {
	w.event(p, want.container, v1.EventTypeNormal, eventPulling, fmt.Sprintf("Pulling image %q", want.ref))
	asked := time.Now()
	select {
	case w.pulls <- struct{}{}:
		defer func() { <-w.pulls }()
	case <-ctx.Done():
		return podruntime.Image{}, nil
	}
	began := time.Now()
	id, err := w.pull(ctx, p, want.ref, credentials())
	if ctx.Err() != nil {
		return podruntime.Image{}, nil
	}
	if err != nil {
		w.event(p, want.container, v1.EventTypeWarning, eventFailed, fmt.Sprintf("Failed to pull image %q: %v", want.ref, err))
		reason := pullReason(err)
		return podruntime.Image{}, &plan.Failure{Reason: reason, Message: err.Error(), Pull: true,
			BackoffMessage: fmt.Sprintf("%s: %s: %v", backoffMessage(want.ref), reason, err)}
	}
	image, err := w.Images.Image(ctx, want.ref)
	if err != nil || image.ID != id {
		// The name leads elsewhere by now.
		image, err = w.Images.Image(ctx, id)
	}
	if err != nil {
		image = podruntime.Image{ID: id}
	}
	now := time.Now()
	w.event(p, want.container, v1.EventTypeNormal, eventPulled,
		fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.", want.ref,
			now.Sub(began).Truncate(time.Millisecond), now.Sub(asked).Truncate(time.Millisecond), image.Size))
	return image, nil
}

// pull pulls an image with one credential after the other until one is good, and notes
// who may use it.
func (w *Worker) pull(ctx context.Context, p *v1.Pod, ref string, all []credentials.Credential) (id string, err error) {
	if err := w.Pulled.Pulling(ref); err != nil {
		return "", err
	}
	if len(all) == 0 {
		all = []credentials.Credential{{}}
	}
	var faults []error
	for _, credential := range all {
		id, err := w.Images.PullImage(ctx, podruntime.PullRequest{Ref: ref, Pod: p, Auth: credential.Auth}, nil)
		if err == nil {
			w.Pulled.Pulled(ref, id, credential.Secret)
			return id, nil
		}
		faults = append(faults, err)
		if ctx.Err() != nil || errors.Is(err, podruntime.ErrInvalidImageName) {
			break
		}
	}
	w.Pulled.Failed(ref)
	return "", utilerrors.NewAggregate(faults)
}

// credentials are those to try for an image: the pod's, then the node's. A
// secret that is not there is told, and does without: the image may be public.
func (w *Worker) credentials(ctx context.Context, p *v1.Pod, image string) []credentials.Credential {
	var secrets []*v1.Secret
	var missing []string
	for _, ref := range p.Spec.ImagePullSecrets {
		secret, err := w.Objects.Secret(ctx, p.Namespace, ref.Name)
		if err != nil {
			missing = append(missing, ref.Name)
			w.Log.Warn("Could not get an image pull secret", "pod", pod.FullName(p), "secret", ref.Name, "err", err)
			continue
		}
		secrets = append(secrets, secret)
	}
	if len(missing) > 0 {
		w.event(p, "", v1.EventTypeWarning, eventPullSecret, fmt.Sprintf(
			"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(missing, ", ")))
	}
	keyring, faults := credentials.FromSecrets(secrets)
	for _, err := range faults {
		w.Log.Warn("Could not read an image pull secret", "pod", pod.FullName(p), "err", err)
	}
	return keyring.Then(w.Host.Credentials()).Lookup(image)
}

// backedOff is the image that a container waits for, by the message of that: its own,
// or that of a volume.
func backedOff(p *v1.Pod, name, message string) string {
	c, _ := pod.ContainerSpec(p, name)
	if c == nil {
		return ""
	}
	for _, v := range imageVolumes(p, c) {
		if strings.HasPrefix(message, backoffMessage(v.Reference)) {
			return v.Reference
		}
	}
	return c.Image
}

func backoffMessage(image string) string { return fmt.Sprintf("Back-off pulling image %q", image) }

func pullReason(err error) string {
	for _, known := range []error{podruntime.ErrInvalidImageName, podruntime.ErrRegistryUnavailable} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return plan.ReasonErrImagePull
}
