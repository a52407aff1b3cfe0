package volume

import "errors"

// setUpImage mounts an image's file system.
func (d *Dirs) setUpImage(v *Volume, dir string) error {
	mounted, err := isMountPoint(dir)
	if err != nil || mounted {
		return err
	}
	if len(v.Layers) == 0 {
		return errors.New("the engine does not tell where it has the image; image volumes need its storage driver overlay2")
	}
	if err := d.makeDir(dir, filesDirMode, nil); err != nil {
		return err
	}
	return d.mountLayers(v.Layers, dir)
}
