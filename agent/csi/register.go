package csi

import (
	"context"
	"errors"
	"fmt"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/util/version"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"nodelet/internal/sleep"
)

const (
	// askTimeout bounds a question to a registration socket, noticeTimeout what it
	// is told.
	askTimeout    = time.Second
	noticeTimeout = 5 * time.Second
	// lastRegisterRetry is the longest pause between two tries with a socket.
	lastRegisterRetry = 2 * time.Minute
	// forgetTries is how often in a row the API server is told that a driver is
	// gone.
	forgetTries = 4
)

// serve keeps the driver behind a registration socket registered until ctx ends:
// when the socket is gone, or the agent's own context does.
func (m *Manager) serve(agent, ctx context.Context, socket string) {
	var d *driver
	_ = retry(ctx, firstRetry, lastRegisterRetry, func() error {
		var err error
		d, err = m.register(agent, ctx, socket)
		if err != nil && ctx.Err() == nil {
			m.Log.Warn("Could not register a plugin", "socket", socket, "err", err)
		}
		return err
	})
	<-ctx.Done()
	// The agent's end is not the driver's.
	if d != nil && agent.Err() == nil && m.dropDriver(d) {
		m.Log.Info("A CSI driver is gone", "driver", d.name, "socket", socket)
		m.tellGone(agent, d.name)
	}
}

// tellGone tells the API server that a driver is gone, as long as it is.
func (m *Manager) tellGone(ctx context.Context, name string) {
	delay := firstRetry
	for try := range forgetTries {
		err := m.uninstall(ctx, name)
		if err == nil {
			return
		}
		m.Log.Warn("Could not tell that a CSI driver is gone", "driver", name, "try", try+1, "err", err)
		if !sleep.For(ctx, delay) {
			return
		}
		delay *= 2
	}
}

// register asks who is behind a registration socket, makes the driver known, and
// tells it what came of it.
func (m *Manager) register(agent, ctx context.Context, socket string) (*driver, error) {
	conn, err := dial(socket)
	if err != nil {
		return nil, fmt.Errorf("connecting to plugin socket %s: %w", socket, err)
	}
	defer conn.Close()
	client := registration.NewRegistrationClient(conn)
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	who, err := client.GetInfo(asking, &registration.InfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return nil, fmt.Errorf("asking plugin socket %s who it is: %w", socket, err)
	}
	d, err := m.admit(ctx, socket, who)
	notice := &registration.RegistrationStatus{PluginRegistered: err == nil}
	if err != nil {
		notice.Error = "RegisterPlugin error -- " + err.Error()
		m.retract(agent, d)
	}
	telling, cancel := context.WithTimeout(ctx, noticeTimeout)
	defer cancel()
	if _, told := client.NotifyRegistrationStatus(telling, notice); told != nil {
		if err == nil {
			m.retract(agent, d)
		}
		err = errors.Join(err, fmt.Errorf("telling plugin socket %s: %w", socket, told))
	}
	if err != nil {
		return nil, err
	}
	m.Log.Info("A CSI driver has registered", "driver", d.name, "endpoint", d.endpoint)
	m.poke()
	return d, nil
}

// retract takes back that a driver is known, if it is.
func (m *Manager) retract(agent context.Context, d *driver) {
	if d != nil && m.dropDriver(d) && agent.Err() == nil {
		m.tellGone(agent, d.name)
	}
}

// admit checks what a plugin says of itself, and makes its driver known. A driver
// that it returns with an error is known as well.
func (m *Manager) admit(ctx context.Context, socket string, who *registration.PluginInfo) (*driver, error) {
	if who.Type != registration.CSIPlugin {
		return nil, fmt.Errorf("no handler registered for plugin type: %s at socket %s", who.Type, socket)
	}
	d := &driver{name: who.Name, endpoint: who.Endpoint}
	if d.endpoint == "" {
		d.endpoint = socket
	}
	var err error
	if d.version, err = m.checkVersions(d.name, who.SupportedVersions); err != nil {
		return nil, fmt.Errorf("plugin validation failed with err: validation failed for CSI Driver %s at endpoint %s: %w", d.name, d.endpoint, err)
	}
	about, err := d.nodeInfo(ctx, m.config.CallTimeout)
	if err != nil {
		return nil, fmt.Errorf("plugin registration failed with err: %w", err)
	}
	// Its volumes can be seen to from now on, whatever the API server is at.
	m.setDriver(d)
	var failed error
	_ = retry(ctx, firstRetry, longestRetry, func() error {
		failed = m.install(ctx, about)
		if bad := (*invalid)(nil); failed == nil || errors.As(failed, &bad) {
			return nil
		}
		if ctx.Err() == nil {
			m.Log.Warn("Could not tell of a CSI driver", "driver", d.name, "err", failed)
		}
		return failed
	})
	if failed != nil {
		return d, fmt.Errorf("plugin registration failed with err: %w", failed)
	}
	return d, nil
}

// checkVersions returns the newest of a driver's versions that is supported. A
// driver may take another's name only with a newer one.
func (m *Manager) checkVersions(name string, versions []string) (*version.Version, error) {
	if len(versions) == 0 {
		return nil, fmt.Errorf("%s: ValidatePlugin for CSI driver %q failed. Plugin returned an empty list for supported versions", plugin, name)
	}
	newest, err := version.HighestSupportedVersion(versions)
	if err != nil {
		return nil, fmt.Errorf("%s: ValidatePlugin for CSI driver %q failed. None of the versions specified %q are supported. err=%w", plugin, name, versions, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.drivers[name]; old != nil && !old.version.LessThan(newest) {
		return nil, fmt.Errorf("%s: ValidatePlugin for CSI driver %q failed. Another driver with the same name is already registered with a higher supported version: %q",
			plugin, name, old.version)
	}
	return newest, nil
}

// plugin is what the kubelet calls its part for CSI drivers.
const plugin = "kubernetes.io/csi"

// nodeInfo asks the driver what the node is to it.
func (d *driver) nodeInfo(ctx context.Context, timeout time.Duration) (*info, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := dial(d.endpoint)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answer, err := spec.NewNodeClient(conn).NodeGetInfo(ctx, &spec.NodeGetInfoRequest{})
	if err != nil {
		return nil, err
	}
	return &info{driver: d.name, nodeID: answer.GetNodeId(), maxVolumes: answer.GetMaxVolumesPerNode(),
		topology: answer.GetAccessibleTopology().GetSegments()}, nil
}
