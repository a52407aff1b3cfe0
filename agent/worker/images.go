package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/credentials"
	"nodelet/agent/plan"
	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// ensureImage returns the container's image, pulled where the pull
// policy wants it.
func (w *Worker) ensureImage(ctx context.Context, p *v1.Pod, c *v1.Container) (podruntime.Image, *plan.Failure) {
	image, err := w.Images.Image(ctx, c.Image)
	switch {
	case err != nil && !podruntime.IsNotFound(err):
		return podruntime.Image{}, &plan.Failure{Reason: "ImageInspectError",
			Message: fmt.Sprintf("Failed to inspect image %q: %v", c.Image, err)}
	case err == nil && c.ImagePullPolicy != v1.PullAlways:
		w.event(p, c.Name, v1.EventTypeNormal, eventPulled,
			fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", c.Image))
		return image, nil
	case c.ImagePullPolicy == v1.PullNever:
		message := fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)
		w.event(p, c.Name, v1.EventTypeWarning, eventErrImageNeverPull, message)
		return podruntime.Image{}, &plan.Failure{Reason: "ErrImageNeverPull", Message: message}
	}
	return w.pullImage(ctx, p, c)
}

func (w *Worker) pullImage(ctx context.Context, p *v1.Pod, c *v1.Container) (podruntime.Image, *plan.Failure) {
	w.event(p, c.Name, v1.EventTypeNormal, eventPulling, fmt.Sprintf("Pulling image %q", c.Image))
	asked := time.Now()
	select {
	case w.pulls <- struct{}{}:
		defer func() { <-w.pulls }()
	case <-ctx.Done():
		return podruntime.Image{}, nil
	}
	began := time.Now()
	id, err := w.Images.PullImage(ctx, podruntime.PullRequest{Ref: c.Image, Pod: p, Auths: w.auths(ctx, p, c.Image)}, nil)
	if ctx.Err() != nil {
		return podruntime.Image{}, nil
	}
	if err != nil {
		w.event(p, c.Name, v1.EventTypeWarning, eventFailed, fmt.Sprintf("Failed to pull image %q: %v", c.Image, err))
		reason := pullReason(err)
		return podruntime.Image{}, &plan.Failure{Reason: reason, Message: err.Error(), Pull: true,
			BackoffMessage: fmt.Sprintf("%s: %s: %v", backoffMessage(c.Image), reason, err)}
	}
	image, err := w.Images.Image(ctx, c.Image)
	if err != nil || image.ID != id {
		// The name leads elsewhere by now.
		image, err = w.Images.Image(ctx, id)
	}
	if err != nil {
		image = podruntime.Image{ID: id}
	}
	now := time.Now()
	w.event(p, c.Name, v1.EventTypeNormal, eventPulled,
		fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.", c.Image,
			now.Sub(began).Truncate(time.Millisecond), now.Sub(asked).Truncate(time.Millisecond), image.Size))
	return image, nil
}

// auths are the credentials to try for an image: the pod's, then the node's. A
// secret that is not there is told, and does without: the image may be public.
func (w *Worker) auths(ctx context.Context, p *v1.Pod, image string) []podruntime.Auth {
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

func backoffMessage(image string) string { return fmt.Sprintf("Back-off pulling image %q", image) }

func pullReason(err error) string {
	for _, known := range []error{podruntime.ErrInvalidImageName, podruntime.ErrRegistryUnavailable} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return plan.ReasonErrImagePull
}
