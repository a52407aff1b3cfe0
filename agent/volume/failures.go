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

// Step is the step's name.
func (s *stepError) Step() string { return s.step }

// named is an error of a step that has a name of its own.
type named interface {
	error
	Step() string
}

// unattached is the error of a volume that was not attached in time.
type unattached interface {
	error
	Unattached()
}

// failedStep says which volume could not be mounted.
func failedStep(volume string, err error) error {
	if waiting := unattached(nil); errors.As(err, &waiting) {
		return err
	}
	step := "SetUp"
	if other := named(nil); errors.As(err, &other) {
		step = other.Step()
	}
	return fmt.Errorf("MountVolume.%s failed for volume %q : %w", step, volume, err)
}

// failures are those of a pod's volumes.
type failures struct {
	errs []error
	// volumes are those that are not set up; causes are of those of which it is not known
	// what they are, unknown, and of those that are not attached.
	volumes, unknown, unattached []string
	causes                       []string
}

// pending says that a volume is still being set up.
func (f *failures) pending(volume string) { f.volumes = append(f.volumes, volume) }

func (f *failures) add(volume string, err error) {
	if err == nil {
		return
	}
	f.volumes = append(f.volumes, volume)
	unknown, waiting := (*unprocessed)(nil), unattached(nil)
	switch {
	case errors.As(err, &unknown):
		f.unknown = append(f.unknown, volume)
	case errors.As(err, &waiting):
		f.unattached = append(f.unattached, volume)
	default:
		f.errs = append(f.errs, err)
		return
	}
	if cause := err.Error(); !slices.Contains(f.causes, cause) {
		f.causes = append(f.causes, cause)
	}
}

// join is one error of each volume that could not be mounted, and one for all that
// it did not come to that with.
func (f *failures) join() error {
	if len(f.causes) > 0 {
		slices.Sort(f.volumes)
		slices.Sort(f.unknown)
		slices.Sort(f.unattached)
		//lint:ignore ST1005 the kubelet's words
		f.errs = append(f.errs, fmt.Errorf("Unable to attach or mount volumes: unmounted volumes=%v, unattached volumes=%v, failed to process volumes=%v: %s",
			f.volumes, f.unattached, f.unknown, strings.Join(f.causes, "; ")))
	}
	return errors.Join(f.errs...)
}
