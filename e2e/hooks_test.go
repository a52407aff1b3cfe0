package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Hooks run in the container, or reach it, and are part of its start and its end.
func TestHooks(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "hooks")
	dir := t.TempDir()
	mount := fmt.Sprintf(`"volumes":[{"name":"d","hostPath":{"path":%q}}],`, dir)
	write := func(name string) string {
		return fmt.Sprintf(`{"exec":{"command":["/test","write","/d/%s","done"]}}`, name)
	}
	c.apply(t, ns, pod("good", mount, fmt.Sprintf(
		`"volumeMounts":[{"name":"d","mountPath":"/d"}],"lifecycle":{"postStart":%s,"preStop":%s}`, write("started"), write("stopped"))))
	c.apply(t, ns, strings.Replace(pod("http", "", `"lifecycle":{"postStart":{"httpGet":{"port":8080,"path":"/any"}},"preStop":{"sleep":{"seconds":3}}}`),
		`"terminationGracePeriodSeconds":1`, `"terminationGracePeriodSeconds":20`, 1))
	c.apply(t, ns, pod("bad", "", `"lifecycle":{"postStart":{"exec":{"command":["/test","exit","7"]}}}`))

	c.ready(t, ns, "app=good", 1)
	if _, err := os.Stat(filepath.Join(dir, "started")); err != nil {
		t.Errorf("postStart: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "stopped")); err == nil {
		t.Error("preStop has run before the container is to end")
	}
	c.kubectl(t, "", "delete", "pod", "-n", ns, "good")
	if _, err := os.Stat(filepath.Join(dir, "stopped")); err != nil {
		t.Errorf("preStop: %v", err)
	}

	// A server may not listen yet when its hook comes; then it is started again.
	c.eventually(t, "a hook over HTTP succeeds", 2*time.Minute, func(ctx context.Context) error {
		p, err := c.kube.CoreV1().Pods(ns).Get(ctx, "http", metav1.GetOptions{})
		if err == nil && !isReady(p) {
			err = fmt.Errorf("%s", describe([]v1.Pod{*p}))
		}
		return err
	})
	began := time.Now()
	c.kubectl(t, "", "delete", "pod", "-n", ns, "http")
	if took := time.Since(began); took < 3*time.Second || took > 20*time.Second {
		t.Errorf("with a preStop hook of 3 s the pod ended after %v", took)
	}

	c.eventually(t, "a failed hook is told", time.Minute, func(ctx context.Context) error {
		if err := c.hasEvent(ctx, ns, "bad", "FailedPostStartHook", "PostStartHook failed"); err != nil {
			return err
		}
		p, err := c.kube.CoreV1().Pods(ns).Get(ctx, "bad", metav1.GetOptions{})
		if err != nil {
			return err
		}
		s := container(p, "c")
		if s.RestartCount == 0 || s.LastTerminationState.Terminated == nil {
			return fmt.Errorf("%s", describe([]v1.Pod{*p}))
		}
		return nil
	})
}
