//go:build linux

package volume

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestHostPathTypes(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.Mkdir(at("dir"), 0o755))
	must(t, os.WriteFile(at("file"), nil, 0o644))
	must(t, os.Symlink("dir", at("link")))
	must(t, os.Symlink("nowhere", at("dangling")))
	must(t, unix.Mkfifo(at("fifo"), 0o644))
	must(t, unix.Mknod(at("block"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 200))))
	socket, err := net.Listen("unix", at("socket"))
	must(t, err)
	defer socket.Close()
	must(t, os.Symlink("/dev/null", at("char")))

	types := map[v1.HostPathType]string{v1.HostPathDirectory: "directory", v1.HostPathFile: "file", v1.HostPathSocket: "socket file",
		v1.HostPathCharDev: "character device", v1.HostPathBlockDev: "block device"}
	is := map[string]v1.HostPathType{"dir": v1.HostPathDirectory, "link": v1.HostPathDirectory, "file": v1.HostPathFile, "fifo": "FIFO",
		"socket": v1.HostPathSocket, "char": v1.HostPathCharDev, "block": v1.HostPathBlockDev}
	setUp := func(name string, hostPathType v1.HostPathType) string {
		p := podOf(t, `{containers: [{name: c}], volumes: [{name: h, hostPath: {path: /}}]}`)
		p.Spec.Volumes[0].HostPath.Path, p.Spec.Volumes[0].HostPath.Type = at(name), &hostPathType
		if err := w.Mount(t.Context(), p); err != nil {
			return strings.TrimPrefix(err.Error(), `MountVolume.SetUp failed for volume "h" : `)
		}
		return ""
	}
	for name, found := range is {
		for hostPathType, words := range types {
			want := "hostPath type check failed: " + at(name) + " is not a " + words + ", it's a " + string(found)
			if found == hostPathType {
				want = ""
			}
			if got := setUp(name, hostPathType); got != want {
				t.Errorf("%s as %s: %q, want %q", name, hostPathType, got, want)
			}
		}
		if got := setUp(name, v1.HostPathUnset); got != "" {
			t.Errorf("%s as anything: %s", name, got)
		}
	}
	for hostPathType, words := range types {
		want := "hostPath type check failed: " + at("none") + " is not a " + words
		if got := setUp("none", hostPathType); !strings.HasPrefix(got, want) {
			t.Errorf("missing as %s: %q, want %q", hostPathType, got, want)
		}
	}
	for name, test := range map[string]struct {
		hostPathType v1.HostPathType
		want         string
	}{
		"dir":     {v1.HostPathFileOrCreate, "is not a file"},
		"file":    {v1.HostPathDirectoryOrCreate, "is not a directory"},
		"none":    {"Other", "Other is an invalid volume type"},
		"../dir":  {v1.HostPathUnset, ""},
		"dir/no":  {v1.HostPathFileOrCreate, ""},
		"no/no/f": {v1.HostPathFileOrCreate, "no such file or directory"},
		"a/b":     {v1.HostPathDirectoryOrCreate, ""},
		"no":      {v1.HostPathUnset, ""},
	} {
		if got := setUp(name, test.hostPathType); !strings.Contains(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%s as %s: %q, want %q", name, test.hostPathType, got, test.want)
		}
	}
	for name, want := range map[string]fs.FileMode{"dir/no": 0o644, "a/b": fs.ModeDir | 0o755} {
		if info, err := os.Stat(at(name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	if _, err := os.Stat(at("no")); err == nil {
		t.Error("a path of no type was made")
	}
	p := podOf(t, `{containers: [{name: c}], volumes: [{name: h, hostPath: {path: /a/../b}}]}`)
	if err := w.Mount(t.Context(), p); err == nil || !strings.HasSuffix(err.Error(), "invalid HostPath `/a/../b`: must not contain '..'") {
		t.Errorf("error %v", err)
	}
}

func TestMemoryLimit(t *testing.T) {
	for name, test := range map[string]struct{ spec, want string }{
		"node's":            {`containers: [{name: c}]`, "1Gi"},
		"volume's":          {`{containers: [{name: c}], volumes: [{name: e, emptyDir: {sizeLimit: 1Mi}}]}`, "1Mi"},
		"too much":          {`{containers: [{name: c}], volumes: [{name: e, emptyDir: {sizeLimit: 2Gi}}]}`, "1Gi"},
		"zero":              {`{containers: [{name: c}], volumes: [{name: e, emptyDir: {sizeLimit: 0}}]}`, "1Gi"},
		"pod's":             {`{containers: [{name: c}], resources: {limits: {memory: 5Mi}}}`, "5Mi"},
		"containers":        {`containers: [{name: c, resources: {limits: {memory: 5Mi}}}, {name: d, resources: {limits: {memory: 6Mi}}}]`, "11Mi"},
		"one has no limit":  {`containers: [{name: c, resources: {limits: {memory: 5Mi}}}, {name: d}]`, "1Gi"},
		"init has no limit": {`{containers: [{name: c, resources: {limits: {memory: 5Mi}}}], initContainers: [{name: i}]}`, "1Gi"},
		"init has more": {`{containers: [{name: c, resources: {limits: {memory: 5Mi}}}],
  initContainers: [{name: i, resources: {limits: {memory: 50Mi}}}, {name: j, resources: {limits: {memory: 9Mi}}}]}`, "50Mi"},
		"sidecar": {`{containers: [{name: c, resources: {limits: {memory: 5Mi}}}],
  initContainers: [{name: s, restartPolicy: Always, resources: {limits: {memory: 7Mi}}}]}`, "12Mi"},
		"init after sidecar": {`{containers: [{name: c, resources: {limits: {memory: 5Mi}}}],
  initContainers: [{name: s, restartPolicy: Always, resources: {limits: {memory: 7Mi}}}, {name: i, resources: {limits: {memory: 9Mi}}}]}`, "16Mi"},
	} {
		w := &world{t: t}
		m := w.manager(NewMemory())
		p := podOf(t, test.spec)
		spec := &v1.Volume{}
		if len(p.Spec.Volumes) > 0 {
			spec = &p.Spec.Volumes[0]
		}
		want := resource.MustParse(test.want)
		if got := m.memoryLimit(p, spec); got != want.Value() {
			t.Errorf("%s: %d, want %d", name, got, want.Value())
		}
	}
}

// What is in memory is a tmpfs of the right size, never swapped out.
func TestTmpfs(t *testing.T) {
	w := newWorld(t)
	w.setSecret("s", "k=v")
	p := podOf(t, `
securityContext: {fsGroup: 77}
containers: [{name: c}]
volumes:
- {name: ram, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: disk, emptyDir: {sizeLimit: 1Mi}}
- {name: s, secret: {secretName: s}}
- {name: d, downwardAPI: {}}
- {name: p, projected: {}}
- {name: none}
`)
	for range 2 {
		w.mount(p)
	}
	for kindName, size := range map[string]int64{"empty-dir/ram": 1 << 20, "secret/s": 1 << 30, "downward-api/d": 1 << 30, "projected/p": 1 << 30} {
		var s unix.Statfs_t
		must(t, unix.Statfs(w.vol(kindName), &s))
		if s.Type != unix.TMPFS_MAGIC || int64(s.Blocks)*s.Bsize != size {
			t.Errorf("%s is of type %#x with %d bytes", kindName, s.Type, int64(s.Blocks)*s.Bsize)
		}
	}
	for _, kindName := range []string{"empty-dir/disk", "empty-dir/none"} {
		if mounted, err := isMountPoint(w.vol(kindName)); err != nil || mounted {
			t.Errorf("%s is mounted, %v", kindName, err)
		}
	}
	points, err := mountsBelow(w.root)
	if err != nil || len(points) != 4 {
		t.Errorf("mounted are %q, %v", points, err)
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.SplitSeq(string(info), "\n") {
		if strings.Contains(line, w.root) && (!strings.Contains(line, "noswap") || !strings.Contains(line, "gid=77")) {
			t.Errorf("mounted %s", line)
		}
	}
	p = podOf(t, `volumes: [{name: x, emptyDir: {medium: Cloud}}]`)
	if err := w.Mount(t.Context(), p); err == nil || !strings.HasSuffix(err.Error(), `unknown storage medium "Cloud"`) {
		t.Errorf("error %v", err)
	}
}

// A second Mount leaves alone what a container has made of an emptyDir.
func TestEmptyDirIsTheContainers(t *testing.T) {
	w := newWorld(t)
	p := podOf(t, faultyPod)
	w.setConfigMap("cm", "k1=v1", "k2=v2")
	w.setSecret("s", "pass=word")
	w.expectMounted(p)
	for _, kindName := range []string{"empty-dir/work", "empty-dir/ram"} {
		dir := w.vol(kindName)
		must(t, os.Chmod(dir, 0o700))
		must(t, os.Chown(dir, 5, 6))
		must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o600))
		w.restart()
		w.mount(p)
		info, err := os.Stat(dir)
		must(t, err)
		if uid, gid := ownerOf(t, dir); info.Mode() != fs.ModeDir|0o700 || uid != 5 || gid != 6 {
			t.Errorf("%s has %v %d:%d", kindName, info.Mode(), uid, gid)
		}
		if info, err := os.Stat(filepath.Join(dir, "f")); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v %v", info, err)
		}
	}
}
