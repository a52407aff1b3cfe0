package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/storage"

	"nodelet/agent/podruntime"
)

// PullImage implements podruntime.Images.
func (r *Runtime) PullImage(ctx context.Context, request podruntime.PullRequest, progress func(podruntime.PullProgress)) (string, error) {
	ref, err := reference.ParseNormalizedNamed(request.Ref)
	if err != nil {
		return "", fmt.Errorf("%w: couldn't parse image name %q: %w", podruntime.ErrInvalidImageName, request.Ref, err)
	}
	err = r.pull(ctx, reference.TagNameOnly(ref).String(), request.Auth, progress)
	switch {
	case err != nil && ctx.Err() != nil:
		return "", fmt.Errorf("pulling image %q: %w", request.Ref, ctx.Err())
	case err != nil:
		return "", fmt.Errorf("%w: %w", podruntime.ErrImagePull, err)
	}
	found, err := r.Image(ctx, request.Ref)
	if err != nil {
		return "", fmt.Errorf("%w: looking for the image that was pulled: %w", podruntime.ErrImagePull, err)
	}
	return found.ID, nil
}

func (r *Runtime) pull(ctx context.Context, name string, auth podruntime.Auth, progress func(podruntime.PullProgress)) error {
	options := image.PullOptions{}
	if auth != (podruntime.Auth{}) {
		encoded, err := registry.EncodeAuthConfig(registry.AuthConfig{Username: auth.Username, Password: auth.Password,
			IdentityToken: auth.IdentityToken, ServerAddress: auth.ServerAddress})
		if err != nil {
			return fmt.Errorf("encoding the credentials for %s: %w", name, err)
		}
		options.RegistryAuth = encoded
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(r.config.ImagePullProgressDeadline, func() {
		cancel(fmt.Errorf("no progress for %v", r.config.ImagePullProgressDeadline))
	})
	defer stalled.Stop()
	body, err := r.client.ImagePull(ctx, name, options)
	if err != nil {
		return because(ctx, err)
	}
	defer body.Close()
	err = readPull(body, func(p podruntime.PullProgress) {
		stalled.Reset(r.config.ImagePullProgressDeadline)
		if progress != nil {
			progress(p)
		}
	})
	return because(ctx, err)
}

// because is the cause for which ctx ended, if it has, or err.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// readPull reads the engine's report of a pull to its end.
func readPull(body io.Reader, progress func(podruntime.PullProgress)) error {
	layers := map[string]podruntime.PullProgress{}
	decoder := json.NewDecoder(body)
	for {
		var m struct {
			ID     string
			Detail struct{ Current, Total int64 } `json:"progressDetail"`
			Error  string
		}
		err := decoder.Decode(&m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the progress of the pull: %w", err)
		}
		if m.Error != "" {
			return errors.New(m.Error)
		}
		if m.Detail.Total > 0 {
			// A layer is downloaded and then extracted, from 0 again.
			l := layers[m.ID]
			layers[m.ID] = podruntime.PullProgress{Current: min(max(l.Current, m.Detail.Current), m.Detail.Total), Total: m.Detail.Total}
		}
		var sum podruntime.PullProgress
		for _, l := range layers {
			sum.Current += l.Current
			sum.Total += l.Total
		}
		progress(sum)
	}
}

// Image returns the image that ref names.
func (r *Runtime) Image(ctx context.Context, ref string) (podruntime.Image, error) {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	i, err := r.client.ImageInspect(ctx, ref)
	if errdefs.IsInvalidArgument(err) {
		return podruntime.Image{}, podruntime.NotFound("image", ref)
	}
	if err != nil {
		return podruntime.Image{}, notFound(err, "image", ref, "inspecting")
	}
	found := podruntime.Image{ID: i.ID, Ref: imageRef(ref, i.ID, i.RepoDigests), Names: append(slices.Clone(i.RepoTags), i.RepoDigests...), Size: i.Size}
	if i.Config != nil {
		found.User = i.Config.User
	}
	found.Layers = layers(i.GraphDriver)
	return found, nil
}

// layers are where the engine has an image, the uppermost first. Only with the
// overlay2 driver are these directories as they are.
func layers(driver storage.DriverData) []string {
	upper := driver.Data["UpperDir"]
	if driver.Name != "overlay2" || upper == "" {
		return nil
	}
	all := []string{upper}
	if lower := driver.Data["LowerDir"]; lower != "" {
		all = append(all, strings.Split(lower, ":")...)
	}
	return all
}

// imageRef is how statuses name an image: as it can be pulled, by the digest
// that the repository of name has for it, or else by its ID.
func imageRef(name, id string, digests []string) string {
	if len(digests) == 0 {
		return "docker://" + id
	}
	best := digests[0]
	if asked, err := reference.ParseNormalizedNamed(name); err == nil {
		for _, d := range digests {
			if has, err := reference.ParseNormalizedNamed(d); err == nil && has.Name() == asked.Name() {
				best = d
			}
		}
	}
	return "docker-pullable://" + best
}

// ListImages lists the images that have a name, or had one.
func (r *Runtime) ListImages(ctx context.Context) ([]podruntime.Image, error) {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	list, err := r.client.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing images: %w", err)
	}
	all := make([]podruntime.Image, 0, len(list))
	for i := range list {
		all = append(all, podruntime.Image{ID: list[i].ID, Size: list[i].Size,
			Names: append(slices.Clone(list[i].RepoTags), list[i].RepoDigests...)})
	}
	slices.SortStableFunc(all, func(a, b podruntime.Image) int { return int(min(max(b.Size-a.Size, -1), 1)) })
	return all, nil
}

// RemoveImage removes an image with all its names. One that a container uses
// is refused by the engine.
func (r *Runtime) RemoveImage(ctx context.Context, id string) error {
	found, err := r.Image(ctx, id)
	if podruntime.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing image %s: %w", id, err)
	}
	refs := []string{id}
	if len(found.Names) > 1 {
		// With several names an ID alone is refused.
		refs = append(found.Names, id)
	}
	for _, ref := range refs {
		ctx, cancel := r.bounded(ctx)
		_, err := r.client.ImageRemove(ctx, ref, image.RemoveOptions{PruneChildren: true})
		cancel()
		if err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("removing image %s: %w", id, err)
		}
	}
	return nil
}

// pauseImage makes sure of the pause image and returns its ID.
func (r *Runtime) pauseImage(ctx context.Context) (string, error) {
	ref := r.config.PodInfraContainerImage
	found, err := r.Image(ctx, ref)
	if err == nil {
		return found.ID, nil
	}
	if !podruntime.IsNotFound(err) {
		return "", fmt.Errorf("pause image: %w", err)
	}
	if r.config.PauseArchive == nil {
		id, err := r.PullImage(ctx, podruntime.PullRequest{Ref: ref}, nil)
		if err != nil {
			return "", fmt.Errorf("pulling the pause image %s: %w", ref, err)
		}
		return id, nil
	}
	archive, err := r.config.PauseArchive()
	if err != nil {
		return "", fmt.Errorf("pause image %s: %w", ref, err)
	}
	loadCtx, cancel := r.bounded(ctx)
	defer cancel()
	loaded, err := r.client.ImageLoad(loadCtx, archive)
	if err != nil {
		return "", fmt.Errorf("loading the pause image %s: %w", ref, err)
	}
	defer loaded.Body.Close()
	if err := readPull(loaded.Body, func(podruntime.PullProgress) {}); err != nil {
		return "", fmt.Errorf("loading the pause image %s: %w", ref, err)
	}
	found, err = r.Image(ctx, ref)
	if err != nil {
		return "", fmt.Errorf("pause image, after it was loaded: %w", err)
	}
	return found.ID, nil
}
