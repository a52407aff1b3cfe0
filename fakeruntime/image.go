package fakeruntime

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// image is one image on the node. There is one image for each reference.
type image struct {
	// name is the whole reference: with registry, and tag or digest.
	name string
	size int64
}

// Sizes of images, in bytes. An image's own follows from its name.
const (
	minImageSize = 5 << 20
	maxImageSize = 400 << 20
)

// pullError is a failed pull in the words of the script.
type pullError struct {
	text string
	kind error
}

func (e *pullError) Error() string { return e.text }
func (e *pullError) Unwrap() error { return e.kind }

func newPullError(text string) error {
	for _, kind := range []error{podruntime.ErrInvalidImageName, podruntime.ErrRegistryUnavailable} {
		if strings.HasPrefix(text, kind.Error()) {
			return &pullError{text, kind}
		}
	}
	return &pullError{text, podruntime.ErrImagePull}
}

// imageID is the ID of the image that a whole reference leads to.
func imageID(name string) string {
	digest := sha256.Sum256([]byte(name))
	return "sha256:" + hex.EncodeToString(digest[:])
}

func (r *Runtime) addImage(name string) (id string) {
	id = imageID(name)
	digest := sha256.Sum256([]byte(id))
	size := minImageSize + int64(binary.LittleEndian.Uint64(digest[:])%(maxImageSize-minImageSize))
	if r.images == nil {
		r.images = map[string]image{}
	}
	r.images[id] = image{name: name, size: size}
	return id
}

// PullImage implements podruntime.Images.
func (r *Runtime) PullImage(ctx context.Context, request podruntime.PullRequest, progress func(podruntime.PullProgress)) (string, error) {
	name, err := podruntime.NormalizeImage(request.Ref)
	if err != nil {
		return "", err
	}
	if err := r.enter(ctx); err != nil {
		return "", fmt.Errorf("pulling image %s: %w", request.Ref, err)
	}
	behavior := DefaultBehavior()
	if c, attempt := r.puller(request); c != nil {
		behavior = r.script(request.Pod, c, attempt)
	}
	r.serial++
	latency := r.draw(behavior.Pull, r.serial, name, "pull")
	if _, ok := r.images[imageID(name)]; ok {
		latency /= 10
	}
	var size int64
	op := r.begin(latency, func() error {
		if behavior.PullError != "" {
			return newPullError(behavior.PullError)
		}
		size = r.images[r.addImage(name)].size
		return nil
	})
	r.unlock()
	if progress != nil {
		progress(podruntime.PullProgress{})
	}
	if err := op.wait(ctx); err != nil {
		if pulling := (*pullError)(nil); errors.As(err, &pulling) {
			return "", err
		}
		return "", fmt.Errorf("pulling image %s: %w", request.Ref, err)
	}
	if progress != nil {
		progress(podruntime.PullProgress{Current: size, Total: size})
	}
	return imageID(name), nil
}

// puller finds the container that an image is pulled for, and its next attempt.
func (r *Runtime) puller(request podruntime.PullRequest) (c *v1.Container, attempt uint32) {
	if request.Pod == nil {
		return nil, 0
	}
	spec := &request.Pod.Spec
	for _, list := range [][]v1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if list[i].Image != request.Ref {
				continue
			}
			if p := r.pods[pod.UID(request.Pod.UID)]; p != nil {
				for _, old := range p.containers {
					if old.Name == list[i].Name {
						attempt = max(attempt, old.Attempt+1)
					}
				}
			}
			return &list[i], attempt
		}
	}
	return nil, 0
}

// Image implements podruntime.Images.
func (r *Runtime) Image(ctx context.Context, ref string) (podruntime.Image, error) {
	if err := r.enter(ctx); err != nil {
		return podruntime.Image{}, fmt.Errorf("inspecting image %s: %w", ref, err)
	}
	defer r.unlock()
	id := ref
	if !strings.HasPrefix(ref, "sha256:") {
		name, err := podruntime.NormalizeImage(ref)
		if err != nil {
			return podruntime.Image{}, err
		}
		id = imageID(name)
	}
	if i, ok := r.images[id]; ok {
		return i.describe(id), nil
	}
	return podruntime.Image{}, podruntime.NotFound("image", ref)
}

func (i image) describe(id string) podruntime.Image {
	names := []string{i.name}
	if repository, _, tagged := strings.Cut(i.name, "@"); !tagged {
		// The tag begins after the last colon: the name has a tag for certain.
		names = append(names, repository[:strings.LastIndexByte(repository, ':')]+"@"+id)
	}
	return podruntime.Image{ID: id, Ref: names[len(names)-1], Names: names, Size: i.size}
}

// ListImages implements podruntime.Images.
func (r *Runtime) ListImages(ctx context.Context) ([]podruntime.Image, error) {
	if err := r.enter(ctx); err != nil {
		return nil, fmt.Errorf("listing images: %w", err)
	}
	defer r.unlock()
	all := make([]podruntime.Image, 0, len(r.images))
	for id, i := range r.images {
		all = append(all, i.describe(id))
	}
	slices.SortFunc(all, func(a, b podruntime.Image) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// RemoveImage implements podruntime.Images. An image that a container was made
// from is kept.
func (r *Runtime) RemoveImage(ctx context.Context, id string) error {
	if err := r.enter(ctx); err != nil {
		return fmt.Errorf("removing image %s: %w", id, err)
	}
	defer r.unlock()
	for _, c := range r.containers {
		if c.ImageID == id {
			return fmt.Errorf("removing image %s: container %s uses it", id, c.ID)
		}
	}
	delete(r.images, id)
	return nil
}
