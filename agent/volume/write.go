package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// A volume's files change all at once:
//
//	..2026_01_02_15_04_05.123456789/   one set of files, complete before
//	..data -> ..2026_…                 this link leads to it
//	key -> ..data/key                  what containers open
//
// ..data is replaced by a rename, so that a path always leads into one complete
// set. Whatever stops the agent in between leaves ..data as it was or as it is
// to be; the next time sweeps the rest.
const (
	dataLink    = "..data"
	newDataLink = "..data_tmp"
	// stampFormat is for the names of sets.
	stampFormat = "..2006_01_02_15_04_05.000000000"
	stampPrefix = "..2"
)

// set is a volume's directory that is being brought up to date. All of it goes
// through an os.Root, which no link leads out of.
type set struct {
	*Dirs
	root *os.Root
	v    *Volume
}

// writeFiles makes a volume show its files, and nothing else.
func (d *Dirs) writeFiles(v *Volume, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	s := &set{Dirs: d, root: root, v: v}
	for _, point := range v.MountPoints {
		if err := s.makeMountPoint(point); err != nil {
			return fmt.Errorf("unable to create nested volume mountpoints: %w", err)
		}
	}
	current, err := root.Readlink(dataLink)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !strings.HasPrefix(current, stampPrefix) || strings.Contains(current, "/") {
		// None of ours.
		current = ""
	}
	if err := s.sweep(current); err != nil {
		return err
	}
	if current == "" || !s.shows(current) {
		if err := s.replace(current); err != nil {
			return err
		}
	}
	return s.link()
}

func (s *set) makeMountPoint(point string) error {
	if _, err := s.root.Stat(point); err == nil {
		return nil
	}
	if err := s.at("mkdir", point); err != nil {
		return err
	}
	return s.root.MkdirAll(point, 0o755)
}

// sweep removes what an earlier try has left.
func (s *set) sweep(current string) error {
	entries, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if name == newDataLink || strings.HasPrefix(name, stampPrefix) && name != current {
			if err := s.remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *set) remove(name string) error {
	if err := s.at("remove", name); err != nil {
		return err
	}
	return s.root.RemoveAll(name)
}

// shows reports whether a set has exactly the volume's files.
func (s *set) shows(name string) bool {
	missing := len(s.v.Files)
	err := fs.WalkDir(s.root.FS(), name, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		want, ok := s.v.Files[strings.TrimPrefix(p, name+"/")]
		if !ok {
			return fs.ErrInvalid
		}
		is, err := s.root.ReadFile(p)
		if err != nil {
			return err
		}
		if !bytes.Equal(is, want.Data) {
			return fs.ErrInvalid
		}
		missing--
		return nil
	})
	return err == nil && missing == 0
}

// replace writes a new set and has ..data lead to it in place of the one before.
func (s *set) replace(before string) error {
	name, err := s.newSet()
	if err != nil {
		return err
	}
	for file, f := range s.v.Files {
		if err := s.write(path.Join(name, file), f); err != nil {
			return err
		}
	}
	if err := s.at("symlink", newDataLink); err != nil {
		return err
	}
	if err := s.root.Symlink(name, newDataLink); err != nil {
		return err
	}
	if err := s.at("rename", dataLink); err != nil {
		return err
	}
	if err := s.root.Rename(newDataLink, dataLink); err != nil {
		return err
	}
	if before == "" {
		return nil
	}
	return s.remove(before)
}

// newSet makes the directory of a new set.
func (s *set) newSet() (string, error) {
	for now := time.Now().UTC(); ; now = now.Add(1) {
		name := now.Format(stampFormat)
		err := s.makeSetDir(name)
		if !errors.Is(err, fs.ErrExist) {
			return name, err
		}
	}
}

// makeSetDir makes a directory that is only written to by the agent, but has the
// volume's group.
func (s *set) makeSetDir(name string) error {
	if err := s.at("mkdir", name); err != nil {
		return err
	}
	if err := s.root.Mkdir(name, 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0o755)
	if s.v.FSGroup != nil {
		if err := s.root.Lchown(name, -1, int(*s.v.FSGroup)); err != nil {
			return err
		}
		mode |= fs.ModeSetgid
	}
	return s.root.Chmod(name, mode)
}

// write makes a file of a new set.
func (s *set) write(file string, f File) error {
	name, below, _ := strings.Cut(file, "/")
	for i := range below {
		if below[i] != '/' {
			continue
		}
		if err := s.makeSetDir(path.Join(name, below[:i])); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := s.at("write", file); err != nil {
		return err
	}
	out, err := s.root.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(f.Data)
	return errors.Join(err, s.own(out, f), out.Close())
}

// own gives a file its owner, its group and its mode, in this order: a change of
// the owner may take bits away.
func (s *set) own(out *os.File, f File) error {
	user, group := -1, -1
	mode := fs.FileMode(f.Mode).Perm()
	if f.User != nil {
		user = int(*f.User)
	}
	if s.v.FSGroup != nil {
		group = int(*s.v.FSGroup)
		mode |= 0o440
	}
	if user >= 0 || group >= 0 {
		if err := out.Chown(user, group); err != nil {
			return err
		}
	}
	return out.Chmod(mode)
}

// link makes a link for the first element of each file's path, and removes those
// that lead to nothing any more.
func (s *set) link() error {
	want := map[string]bool{}
	for file := range s.v.Files {
		first, _, _ := strings.Cut(file, "/")
		want[first] = true
	}
	entries, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case want[name]:
			// A mount point of that name hides the file, as it would anyway.
			delete(want, name)
		case e.Type() == fs.ModeSymlink && name != dataLink:
			if err := s.remove(name); err != nil {
				return err
			}
		}
	}
	for name := range want {
		if err := s.at("symlink", name); err != nil {
			return err
		}
		if err := s.root.Symlink(filepath.Join(dataLink, name), name); err != nil {
			return err
		}
	}
	return nil
}
