// Package pause is the program that holds a pod's namespaces, and its image.
//
// The program is so small that it is written in machine code by the functions
// here, when it is asked for: building the agent needs nothing but Go, no binary
// is kept beside the source, and a running pause takes two pages of memory. It
// is the same for both architectures:
//
//	block SIGINT, SIGTERM and SIGCHLD
//	reap: while wait4(any child, WNOHANG) finds one that has ended
//	wait: rt_sigtimedwait, for ever, for one of the three
//	      SIGCHLD          -> reap
//	      EINTR            -> wait
//	      SIGINT, SIGTERM  -> exit 0
//	      anything else    -> exit 1
//
// Signals are blocked and fetched because the kernel drops what PID 1 of a
// namespace has neither handled nor blocked. Blocked they also stay pending, so
// that nothing is lost between two waits. What ends a child while reap is at work
// raises SIGCHLD once more. A system call that fails in a way not foreseen ends
// the program rather than have it spin.
//
// To change the program, change amd64.go and arm64.go and the listings in
// testdata, which a disassembler in the test holds against the code.
package pause

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"nodelet/internal/imagebuild"
)

// Repository is the repository of the image. It is on no registry.
const Repository = "nodelet.local/pause"

// path is where the program is in the image.
const path = "/pause"

// user is nobody's: pause needs no right of root. It is upstream's choice, too.
const user = "65535:65535"

// Image returns the pause image for an architecture as in GOARCH, for `docker
// load`, and its reference. The tag names the content: what an engine has under
// ref is this very image, and need not be loaded. An architecture for which
// there is no program is an error.
func Image(arch string) (archive []byte, ref string, err error) {
	program, err := Binary(arch)
	if err != nil {
		return nil, "", err
	}
	image, err := imagebuild.Build(imagebuild.Spec{
		Architecture: arch,
		Config:       ocispec.ImageConfig{Entrypoint: []string{path}, User: user, WorkingDir: "/", StopSignal: "SIGTERM"},
		Files:        []imagebuild.File{{Path: path, Mode: 0o555, Data: program}},
	})
	if err != nil {
		return nil, "", err
	}
	ref = Repository + ":" + strings.TrimPrefix(image.ID, "sha256:")[:12]
	archive, err = image.Archive(ref)
	return archive, ref, err
}
