package podruntimetest

import (
	"errors"
	"slices"

	"nodelet/agent/podruntime"
)

var imageRules = []rule{
	{"PullShows", pullShows},
	{"PullTwice", pullTwice},
	{"PullOfWhatNoRegistryHas", pullUnknown},
	{"PullOfNoName", pullInvalid},
	{"Unknown", imageUnknown},
	{"Remove", imageRemove},
}

func (w *world) pull(ref string) (string, error) {
	return w.Runtime.PullImage(w.ctx, podruntime.PullRequest{Ref: ref, Pod: w.pod}, nil)
}

func pullShows(w *world) {
	var progress []podruntime.PullProgress
	id, err := w.Runtime.PullImage(w.ctx, podruntime.PullRequest{Ref: w.Image, Pod: w.pod},
		func(p podruntime.PullProgress) { progress = append(progress, p) })
	w.ok(err)
	for _, p := range progress {
		if p.Current < 0 || p.Total > 0 && p.Current > p.Total {
			w.Errorf("progress %+v", p)
		}
	}
	for _, ref := range []string{w.Image, id} {
		image, err := w.Runtime.Image(w.ctx, ref)
		w.ok(err)
		if image.ID != id || image.Size <= 0 || len(image.Names) == 0 {
			w.Errorf("image %s, pulled as %s: %+v", ref, id, image)
		}
	}
	all, err := w.Runtime.ListImages(w.ctx)
	w.ok(err)
	if !slices.ContainsFunc(all, func(i podruntime.Image) bool { return i.ID == id }) {
		w.Errorf("image %s is not listed", id)
	}
	if !slices.IsSortedFunc(all, func(a, b podruntime.Image) int { return int(min(max(b.Size-a.Size, -1), 1)) }) {
		w.Error("images are not listed from the largest to the smallest")
	}
}

func pullTwice(w *world) {
	first, err := w.pull(w.Image)
	w.ok(err)
	again, err := w.pull(w.Image)
	w.ok(err)
	if again != first {
		w.Errorf("the second pull gave %s, the first %s", again, first)
	}
}

func pullUnknown(w *world) {
	w.pod.Spec.Containers[0].Image = w.UnknownImage
	id, err := w.pull(w.UnknownImage)
	if !errors.Is(err, podruntime.ErrImagePull) {
		w.Errorf("pulling %s: %q, %v, want an ErrImagePull", w.UnknownImage, id, err)
	}
	if _, err := w.Runtime.Image(w.ctx, w.UnknownImage); !podruntime.IsNotFound(err) {
		w.Errorf("after a failed pull: %v, want not found", err)
	}
}

func pullInvalid(w *world) {
	if _, err := w.pull("No Image:At//All"); !errors.Is(err, podruntime.ErrInvalidImageName) {
		w.Errorf("pulling what is no reference: %v, want an InvalidImageName", err)
	}
}

func imageUnknown(w *world) {
	for _, ref := range []string{w.UnknownImage, "sha256:0000000000000000000000000000000000000000000000000000000000000000"} {
		if _, err := w.Runtime.Image(w.ctx, ref); !podruntime.IsNotFound(err) {
			w.Errorf("image %s: %v, want not found", ref, err)
		}
	}
}

func imageRemove(w *world) {
	id := w.image()
	for range 2 {
		w.ok(w.Runtime.RemoveImage(w.ctx, id))
	}
	if _, err := w.Runtime.Image(w.ctx, w.Image); !podruntime.IsNotFound(err) {
		w.Errorf("after the image was removed: %v, want not found", err)
	}
}
