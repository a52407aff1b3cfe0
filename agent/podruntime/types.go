package podruntime

import (
	"errors"
	"fmt"
	"io"
	"time"

	v1 "k8s.io/api/core/v1"
)

// SandboxConfig says what sandbox to make.
type SandboxConfig struct {
	// Pod is the pod that the sandbox is for. Namespaces, security context,
	// sysctls, host ports and labels are read from it. It must not be changed.
	Pod *v1.Pod
	// Attempt is one more than the attempt of the pod's newest sandbox, or 0.
	Attempt uint32
	// Hostname is the name inside the pod's UTS namespace.
	Hostname string
	// LogDirectory is where the links to the containers' logs go; empty for none.
	LogDirectory string
	// DNS is the content of resolv.conf; nil leaves the runtime's own.
	DNS *v1.PodDNSConfig
	// CgroupParent is the pod's cgroup; empty for the runtime's default.
	CgroupParent string
}

// ContainerConfig says what container to make.
type ContainerConfig struct {
	// Pod and Container are the spec. They must not be changed.
	Pod       *v1.Pod
	Container *v1.Container
	// Attempt is the container's restart count.
	Attempt uint32
	// Target is the ID of a running container of the sandbox whose processes the
	// container is to see, and with whose end it ends; empty for none.
	Target string
	// ImageID is the ID of the image to run, as PullImage or Image returned it.
	ImageID string
	// ImageRef is kept with the container and comes back in pod.Container.ImageRef.
	ImageRef string
	// Hash is kept with the container and comes back in pod.Container.Hash.
	Hash string
	// Command and Args have their $(VAR) references expanded. Both empty means
	// the image's own.
	Command, Args []string
	// Env is the whole environment in order, resolved.
	Env []EnvVar
	// Mounts are bind mounts in the order to make them.
	Mounts []Mount
	// LogPath is the link to make to the container's log, relative to the
	// sandbox's LogDirectory; empty for none.
	LogPath string
}

// EnvVar is one variable of a container's environment.
type EnvVar struct{ Name, Value string }

// Mount binds a path of the host into a container.
type Mount struct {
	HostPath      string
	ContainerPath string
	ReadOnly      bool
	// Propagation is empty, or one of the values of v1.MountPropagationMode.
	Propagation v1.MountPropagationMode
}

// PullRequest says which image to fetch, and as whom.
type PullRequest struct {
	// Ref is the image reference as the container's spec has it.
	Ref string
	// Auth is the credential to show; the zero value for none.
	Auth Auth
	// Pod is the pod that asked.
	Pod *v1.Pod
}

// Auth is a registry credential.
type Auth struct {
	Username, Password, IdentityToken, ServerAddress string
}

// PullProgress is how far a pull has come.
type PullProgress struct {
	// Current and Total are bytes; Total is 0 while unknown.
	Current, Total int64
}

// Image is an image on the node.
type Image struct {
	// ID is the image's content digest.
	ID string
	// Ref is how a container's status names the image: by a digest of the
	// repository that was asked for where there is one.
	Ref string
	// Names are the tags and digests that lead to the image.
	Names []string
	// Size is in bytes on disk.
	Size int64
	// User is the user that the image's configuration names: a name, a number,
	// or empty for root.
	User string
	// Layers are the directories of the machine that make up the image's file system,
	// each over those after it; nil where the runtime does not tell.
	Layers []string
}

// ExecOptions is a command to run in a container.
type ExecOptions struct {
	Command []string
	StreamOptions
}

// StreamOptions are the ends of an interactive session. Nil ends are not
// connected.
type StreamOptions struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// TTY asks for a terminal; Stderr is then unused.
	TTY bool
	// Resize gives the terminal's sizes until it is closed; may be nil.
	Resize <-chan TerminalSize
}

// TerminalSize is in characters.
type TerminalSize struct{ Width, Height uint16 }

// LogOptions says which part of a container's output to write.
type LogOptions struct {
	// Follow goes on until the container has ended.
	Follow bool
	// Since leaves out what was written before; zero for all.
	Since time.Time
	// Tail is the number of lines to begin with from the end; negative for all.
	Tail int64
	// LimitBytes ends the output after so many bytes; 0 for no limit.
	LimitBytes int64
	// Timestamps puts RFC 3339 time with nanoseconds before each line.
	Timestamps bool
}

// Status is how the runtime is.
type Status struct {
	// Name is the runtime's name as in a node's containerRuntimeVersion, which
	// is Name://Version.
	Name    string
	Version string
	// Ready is false with a Reason and a Message while pods cannot be run.
	Ready           bool
	Reason, Message string
}

// notFoundError says that something does not exist in the runtime.
type notFoundError struct{ kind, id string }

func (e *notFoundError) Error() string { return fmt.Sprintf("%s %q not found", e.kind, e.id) }

// NotFound returns an error for which IsNotFound holds. kind is what was looked
// for: "sandbox", "container" or "image".
func NotFound(kind, id string) error { return &notFoundError{kind, id} }

// IsNotFound reports whether err says that a sandbox, container or image does
// not exist.
func IsNotFound(err error) bool {
	var e *notFoundError
	return errors.As(err, &e)
}

// Errors that a container's status names, in the kubelet's words. An
// implementation wraps one of them where it applies.
var (
	// ErrInvalidImageName: the reference cannot be parsed.
	ErrInvalidImageName = errors.New("InvalidImageName")
	// ErrRegistryUnavailable: the registry could not be reached.
	ErrRegistryUnavailable = errors.New("RegistryUnavailable")
	// ErrImagePull: any other failure of a pull.
	ErrImagePull = errors.New("ErrImagePull")
)
