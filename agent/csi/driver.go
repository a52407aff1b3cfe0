package csi

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"
)

// driver is one that has registered.
type driver struct {
	name, endpoint string
	version        *version.Version
}

// redial is the pause between two tries to connect to a socket that nobody listens
// on yet.
const redial = 50 * time.Millisecond

// connectTimeout is how long a driver may take to answer to a connection.
const connectTimeout = 20 * time.Second

// dial connects to a unix socket with the first call. Each operation has a
// connection of its own: a driver that has just been restarted is then reached at
// once.
func dial(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///csi", grpc.WithAuthority("localhost"),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: redial, MaxDelay: redial},
			MinConnectTimeout: connectTimeout}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}))
}

// connection is one to a driver, with what the driver can do.
type connection struct {
	spec.NodeClient
	conn *grpc.ClientConn
	can  []spec.NodeServiceCapability_RPC_Type
}

// connect connects to a driver and asks what it can do.
func (d *driver) connect(ctx context.Context) (*connection, error) {
	conn, err := dial(d.endpoint)
	if err != nil {
		return nil, err
	}
	c := &connection{NodeClient: spec.NewNodeClient(conn), conn: conn}
	answer, err := c.NodeGetCapabilities(ctx, &spec.NodeGetCapabilitiesRequest{})
	if err != nil {
		conn.Close()
		return nil, err
	}
	for _, one := range answer.GetCapabilities() {
		c.can = append(c.can, one.GetRpc().GetType())
	}
	return c, nil
}

func (c *connection) close() { c.conn.Close() }

// stages reports whether the driver wants a global mount before any other.
func (c *connection) stages() bool {
	return slices.Contains(c.can, spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME)
}

// setsGroup reports whether the driver gives volumes their group itself.
func (c *connection) setsGroup() bool {
	return slices.Contains(c.can, spec.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP)
}

// capability says how a volume is to be mounted.
func (c *connection) capability(s *source) *spec.VolumeCapability {
	mount := &spec.VolumeCapability_MountVolume{FsType: s.fsType, MountFlags: s.mountOptions}
	if s.fsGroup != nil && c.setsGroup() {
		mount.VolumeMountGroup = strconv.FormatInt(*s.fsGroup, 10)
	}
	several := slices.Contains(c.can, spec.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER)
	return &spec.VolumeCapability{
		AccessMode: &spec.VolumeCapability_AccessMode{Mode: accessMode(s.accessMode, several)},
		AccessType: &spec.VolumeCapability_Mount{Mount: mount},
	}
}

// accessMode is the mode's name in the specification; several says that the driver
// tells one writer on the node from several.
func accessMode(mode v1.PersistentVolumeAccessMode, several bool) spec.VolumeCapability_AccessMode_Mode {
	switch mode {
	case v1.ReadWriteOnce:
		if several {
			return spec.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER
		}
		return spec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	case v1.ReadWriteOncePod:
		if several {
			return spec.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
		}
		return spec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	case v1.ReadOnlyMany:
		return spec.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	case v1.ReadWriteMany:
		return spec.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	}
	return spec.VolumeCapability_AccessMode_UNKNOWN
}

// refused reports whether a driver has answered that it did not do what it was
// asked, so that there is nothing to undo. After other errors it may still be at
// it.
func refused(err error) bool {
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	switch s.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.ResourceExhausted, codes.Aborted:
		return false
	}
	return true
}

// find returns a registered driver; one that has not registered yet is waited
// for a while.
func (m *Manager) find(ctx context.Context, name string) (*driver, error) {
	ctx, cancel := context.WithTimeout(ctx, m.config.DriverPatience)
	defer cancel()
	for {
		m.mu.Lock()
		d, changed := m.drivers[name], m.changed
		m.mu.Unlock()
		if d != nil {
			return d, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("driver name %s not found in the list of registered CSI drivers", name)
		}
	}
}

func (m *Manager) known(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.drivers[name] != nil
}

// setDriver makes a driver known.
func (m *Manager) setDriver(d *driver) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drivers[d.name] = d
	close(m.changed)
	m.changed = make(chan struct{})
}

// dropDriver forgets a driver, unless another one has taken its name since. It
// reports whether it did.
func (m *Manager) dropDriver(d *driver) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.drivers[d.name] != d {
		return false
	}
	delete(m.drivers, d.name)
	return true
}
