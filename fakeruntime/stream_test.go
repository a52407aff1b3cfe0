package fakeruntime

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/podruntime"
)

func TestPortForwardServes(t *testing.T) {
	play(t, Behavior{}, func(w *world) {
		p := newPod("p")
		p.Spec.Containers[0].Ports = []v1.ContainerPort{{ContainerPort: 80}}
		id := w.start(p)
		near, far := net.Pipe()
		result := make(chan error, 1)
		go func() { result <- w.PortForward(w.Context(), w.observed(p).Sandboxes[0].ID, 80, far) }()
		in := bufio.NewReader(near)
		for range 2 {
			if _, err := io.WriteString(near, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(response.Body); err != nil || string(body) != "ns/p c\n" {
				t.Errorf("%q, %v", body, err)
			}
		}
		w.ok(w.StopContainer(w.Context(), id, 0))
		if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("after the container has ended: %v", err)
		}
		if err := <-result; err != nil {
			t.Errorf("PortForward: %v", err)
		}
	})
}

func TestAttachEndsWithItsInput(t *testing.T) {
	play(t, Behavior{}, func(w *world) {
		p := newPod("p")
		p.Spec.Containers[0].StdinOnce = true
		id := w.start(p)
		w.ok(w.Attach(w.Context(), id, podruntime.StreamOptions{Stdin: strings.NewReader("words")}))
	})
}

func TestShell(t *testing.T) {
	play(t, Behavior{}, func(w *world) {
		p := newPod("p")
		id := w.start(p)
		for _, test := range []struct {
			command []string
			code    int
			out     string
		}{
			{[]string{"true"}, 0, ""},
			{[]string{"false"}, 1, ""},
			{[]string{"echo", "a", "b"}, 0, "a b\n"},
			{[]string{"cat"}, 0, "input"},
			{[]string{"hostname"}, 0, "p\n"},
			{[]string{"sh", "-c", "exit 9"}, 9, ""},
			{[]string{"sh", "-c", "echo x"}, 0, "x\n"},
			{[]string{"sh", "-c", ""}, 0, ""},
			{[]string{"anything", "--else"}, 0, ""},
			{[]string{"sleep", "2.5"}, 0, ""},
		} {
			var out strings.Builder
			code, err := w.Exec(w.Context(), id, podruntime.ExecOptions{Command: test.command,
				StreamOptions: podruntime.StreamOptions{Stdin: strings.NewReader("input"), Stdout: &out}})
			if err != nil || code != test.code || out.String() != test.out {
				t.Errorf("%q: %d, %q, %v", test.command, code, out.String(), err)
			}
		}
		go func() {
			time.Sleep(second)
			w.ok(w.StopContainer(w.Context(), id, 0))
		}()
		code, err := w.Exec(w.Context(), id, podruntime.ExecOptions{Command: []string{"sleep", "60"}})
		if err != nil || code != 137 {
			t.Errorf("a command in a container that ends: %d, %v", code, err)
		}
		if _, err := w.Exec(w.Context(), id, podruntime.ExecOptions{}); err == nil {
			t.Error("no command is a command")
		}
	})
}
