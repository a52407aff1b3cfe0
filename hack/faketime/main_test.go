package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestChanged: every change finds its place in the runtime of this Go release.
func TestChanged(t *testing.T) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	runtime := filepath.Join(strings.TrimSpace(string(out)), "src", "runtime")
	files, err := changed(func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(runtime, name)) })
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if !strings.Contains(files[c.file], c.new) {
			t.Errorf("runtime/%s is without\n%s", c.file, c.new)
		}
	}
}

// TestAnotherRelease: what cannot be changed is told, all of it.
func TestAnotherRelease(t *testing.T) {
	_, err := changed(func(string) ([]byte, error) { return []byte("package runtime\n"), nil })
	if err == nil || strings.Count(err.Error(), "0 times, not once") != len(changes) {
		t.Errorf("got %v", err)
	}
}
