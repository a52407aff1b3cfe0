package e2e

import (
	"bytes"
	"context"
	"testing"
	"time"

	"nodelet/internal/dockertest"
)

// containers are what the engine has of a pod, by name.
func (c *cluster) containers(t testing.TB, uid string) []dockertest.Container {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	all, err := c.engine.Containers(ctx, "io.kubernetes.pod.uid="+uid)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// log is what a container has written to its standard output.
func (c *cluster) log(t testing.TB, id string) string {
	t.Helper()
	var out bytes.Buffer
	if err := c.engine.Logs(context.Background(), id, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
