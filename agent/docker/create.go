package docker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"nodelet/internal/sleep"
)

// creation is a container to create, or to find created.
type creation struct {
	// name is the container's name; extra, where not empty, makes another.
	name   func(extra string) string
	config *container.Config
	host   *container.HostConfig
	// keep says whether the container that has the name is the one wanted.
	keep func(*container.InspectResponse) bool
}

// nameLost is after how long a name that is taken, by no container, is given up.
const nameLost = 15 * time.Second

// create creates a container, or returns the one that has its name if that is
// what is wanted; if it is not, it is replaced. Two calls at a time end with
// one container, for a name is given once.
func (r *Runtime) create(ctx context.Context, c creation) (string, error) {
	extra := ""
	began := time.Now()
	for delay := 10 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		id, err := r.createNamed(ctx, c, c.name(extra))
		if err == nil || !errdefs.IsConflict(err) || ctx.Err() != nil {
			return id, err
		}
		holder, look := r.inspect(ctx, c.name(extra))
		switch {
		case time.Since(began) > 2*nameLost:
			return "", err
		case errdefs.IsNotFound(look):
			// Gone since, or about to be made by another call, which may take
			// long; or one that the engine has lost but for its name, which only
			// its restart frees.
			if time.Since(began) > nameLost {
				extra = randomName()
			} else if !sleep.For(ctx, delay) {
				return "", ctx.Err()
			}
		case look != nil:
			return "", look
		case c.keep(&holder):
			return holder.ID, nil
		default:
			if err := r.remove(ctx, holder.ID); err != nil {
				return "", fmt.Errorf("making room for a container's name: %w", err)
			}
		}
	}
}

func (r *Runtime) createNamed(ctx context.Context, c creation, name string) (string, error) {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	created, err := r.client.ContainerCreate(ctx, c.config, c.host, nil, nil, name)
	if err != nil {
		return "", err
	}
	return created.ID, nil
}

func randomName() string {
	var b [4]byte
	// It never fails: see its documentation.
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
