package volume

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// unprocessed is why it is not known what a volume is.
type unprocessed struct{ error }

func (u *unprocessed) Unwrap() error { return u.error }

// stepError is the failure of another step of mounting a volume than the last.
type stepError struct {
	error
	// step is its name in the kubelet's messages.
	step string
}

func (s *stepError) Unwrap() error { return s.error }

// failedStep says which volume could not be mounted.
func failedStep(volume string, err error) error {
	step := "SetUp"
	if other := (*stepError)(nil); errors.As(err, &other) {
		step = other.step
	}
	return fmt.Errorf("MountVolume.%s failed for volume %q : %w", step, volume, err)
}

// failures are those of a pod's volumes.
type failures struct {
	errs []error
	// volumes are those that failed; causes are of those of which it is not known
	// what they are, unknown.
	volumes, unknown []string
	causes           []string
}

func (f *failures) add(volume string, err error) {
	if err == nil {
		return
	}
	f.volumes = append(f.volumes, volume)
	if cause := (*unprocessed)(nil); errors.As(err, &cause) {
		f.unknown = append(f.unknown, volume)
		f.causes = append(f.causes, err.Error())
		return
	}
	f.errs = append(f.errs, err)
}

// join is one error of each volume that could not be mounted, and one for all of
// which it is not known what they are.
func (f *failures) join() error {
	if len(f.unknown) > 0 {
		slices.Sort(f.volumes)
		slices.Sort(f.unknown)
		f.errs = append(f.errs, fmt.Errorf("Unable to attach or mount volumes: unmounted volumes=%v, unattached volumes=[], failed to process volumes=%v: %s", //nolint:staticcheck // the kubelet's words
			f.volumes, f.unknown, strings.Join(f.causes, "; ")))
	}
	return errors.Join(f.errs...)
}
