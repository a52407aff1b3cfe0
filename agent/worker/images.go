package worker

import (
	"context"
	"errors"
	"fmt"
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

// ensureImage returns the container's image, pulled where the pull
// policy wants it.
func (w *Worker) ensureImage(ctx context.Context, p *v1.Pod, c *v1.Container) (podruntime.Image, *plan.Failure) {
	image, err := w.Images.Image(ctx, c.Image)
	// They are looked for once, and only where they matter.
	credentials := sync.OnceValue(func() []credentials.Credential { return w.credentials(ctx, p, c.Image) })
	switch {
	case err != nil && !podruntime.IsNotFound(err):
		return podruntime.Image{}, &plan.Failure{Reason: "ImageInspectError",
			Message: fmt.Sprintf("Failed to inspect image %q: %v", c.Image, err)}
	case err == nil && c.ImagePullPolicy != v1.PullAlways && w.Pulled.MayUse(c.Image, image, secretsOf(credentials)):
		w.event(p, c.Name, v1.EventTypeNormal, eventPulled,
			fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", c.Image))
		return image, nil
	case c.ImagePullPolicy == v1.PullNever:
		// Nor is it told that there is one which this pod may not use.
		message := fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)
		w.event(p, c.Name, v1.EventTypeWarning, eventErrImageNeverPull, message)
		return podruntime.Image{}, &plan.Failure{Reason: "ErrImageNeverPull", Message: message}
	}
	return w.pullImage(ctx, p, c, credentials)
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

func (w *Worker) pullImage(ctx context.Context, p *v1.Pod, c *v1.Container, credentials func() []credentials.Credential) (podruntime.Image, *plan.Failure) {
	w.event(p, c.Name, v1.EventTypeNormal, eventPulling, fmt.Sprintf("Pulling image %q", c.Image))
	asked := time.Now()
	select {
	case w.pulls <- struct{}{}:
		defer func() { <-w.pulls }()
	case <-ctx.Done():
		return podruntime.Image{}, nil
	}
	began := time.Now()
	id, err := w.pull(ctx, p, c, credentials())
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

// pull pulls a container's image with one credential after the other until one
// is good, and notes who may use it.
func (w *Worker) pull(ctx context.Context, p *v1.Pod, c *v1.Container, all []credentials.Credential) (id string, err error) {
	if err := w.Pulled.Pulling(c.Image); err != nil {
		return "", err
	}
	if len(all) == 0 {
		all = []credentials.Credential{{}}
	}
	var faults []error
	for _, credential := range all {
		id, err := w.Images.PullImage(ctx, podruntime.PullRequest{Ref: c.Image, Pod: p, Auth: credential.Auth}, nil)
		if err == nil {
			w.Pulled.Pulled(c.Image, id, credential.Secret)
			return id, nil
		}
		faults = append(faults, err)
		if ctx.Err() != nil || errors.Is(err, podruntime.ErrInvalidImageName) {
			break
		}
	}
	w.Pulled.Failed(c.Image)
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

func backoffMessage(image string) string { return fmt.Sprintf("Back-off pulling image %q", image) }

func pullReason(err error) string {
	for _, known := range []error{podruntime.ErrInvalidImageName, podruntime.ErrRegistryUnavailable} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return plan.ReasonErrImagePull
}
