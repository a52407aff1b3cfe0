package simcluster

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
)

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name    string
		options Options
		faults  []string
	}{
		{"zero", Options{}, nil},
		{"all well", Options{Listen: "127.0.0.1:6443", APILoad: Shared}, nil},
		{"any port", Options{Listen: "localhost:0"}, nil},
		{"IPv6", Options{Listen: "[::1]:0"}, nil},
		{"another loopback address", Options{Listen: "127.0.0.2:1"}, nil},
		{"API load", Options{APILoad: "light"}, []string{`API load "light": must be "faithful" or "shared"`}},
		{"no port", Options{Listen: "127.0.0.1"}, []string{`listen address "127.0.0.1": must be host:port`}},
		{"port out of range", Options{Listen: "127.0.0.1:65536"}, []string{`port "65536"`}},
		{"public", Options{Listen: "192.0.2.1:1"}, []string{"must be a loopback address"}},
		{"all addresses", Options{Listen: ":1"}, []string{"must be a loopback address"}},
		{"two faults", Options{Listen: "x", APILoad: "y"}, []string{`"x"`, `"y"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.options.Validate()
			if (err != nil) != (len(tc.faults) > 0) {
				t.Fatalf("Validate: %v, want %d faults", err, len(tc.faults))
			}
			for _, fault := range tc.faults {
				if !strings.Contains(err.Error(), fault) {
					t.Errorf("Validate: %v\nwant it to say %s", err, fault)
				}
			}
		})
	}
}

func TestDataDirIsInMemory(t *testing.T) {
	if !memoryBacked(sharedMemory) {
		t.Skip("no memory-backed storage on this machine")
	}
	d, err := openDataDir("")
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(d.path) != sharedMemory {
		t.Errorf("data directory %s, want it in %s", d.path, sharedMemory)
	}
	if err := d.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(d.path); !os.IsNotExist(err) {
		t.Errorf("the data directory is still there: %v", err)
	}
}

func TestDataDirPathTooLong(t *testing.T) {
	_, err := openDataDir(filepath.Join(t.TempDir(), strings.Repeat("x", 100)))
	wantOptionError(t, err, "Dir", "path too long")
}

// What upstream calls an error is for debugging.
func TestUpstreamLogs(t *testing.T) {
	for _, tc := range []struct {
		level slog.Level
		want  int
	}{{slog.LevelDebug, 2}, {slog.LevelInfo, 0}} {
		var out bytes.Buffer
		log := logr.FromSlogHandler(quiet{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: tc.level})})
		log.Error(errors.New("x"), "a")
		log.Info("b")
		if got := strings.Count(out.String(), "level=DEBUG"); got != tc.want || strings.Count(out.String(), "\n") != tc.want {
			t.Errorf("at level %v: %q, want %d lines of level DEBUG", tc.level, out.String(), tc.want)
		}
	}
}
