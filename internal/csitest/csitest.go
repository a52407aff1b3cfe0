//go:build linux

// Package csitest is a CSI driver for tests of an agent. Its volumes are
// directories of the machine, which it binds where they are wanted, as root. It
// keeps a record of its calls, refuses those that come in a wrong order, and can be
// told to fail, to hang and to go away.
package csitest

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// Config says what driver to be.
type Config struct {
	// Name is the driver's.
	Name string
	// Root is the agent's directory; Data has the volumes, a directory for each,
	// made when it is needed.
	Root, Data string
	// NodeID, MaxVolumes and Topology are what it says of the node.
	NodeID     string
	MaxVolumes int64
	Topology   map[string]string
	// Can is what it can do.
	Can []spec.NodeServiceCapability_RPC_Type
	// Type and Versions are what it registers as; a CSI driver of 1.0.0 if empty.
	Type     string
	Versions []string
}

// Driver is a running driver. All methods may be called concurrently.
type Driver struct {
	spec.UnimplementedNodeServer
	registration.UnimplementedRegistrationServer
	config  Config
	notices chan *registration.RegistrationStatus

	mu    sync.Mutex
	calls []Call
	// fail has what a method answers in place of doing it; hang has those that do
	// nothing until the channel is closed.
	fail map[string]error
	hang map[string]chan struct{}
	// busy are the volumes with which something is done.
	busy map[string]bool
	// servers are the running ones.
	servers []*grpc.Server
	serving sync.WaitGroup
}

// Call is one call of the driver.
type Call struct {
	// Method is its name, such as NodePublishVolume.
	Method  string
	Request proto.Message
}

// Start starts a driver, which registers with the agent. It is stopped at the
// test's end.
func Start(t testing.TB, config Config) *Driver {
	t.Helper()
	d := New(config)
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	return d
}

// New returns a driver that is yet to be started.
func New(config Config) *Driver {
	if config.Type == "" {
		config.Type = registration.CSIPlugin
	}
	if config.Versions == nil {
		config.Versions = []string{"1.0.0"}
	}
	return &Driver{config: config, notices: make(chan *registration.RegistrationStatus, 100),
		fail: map[string]error{}, hang: map[string]chan struct{}{}, busy: map[string]bool{}}
}

// Socket is where the driver is called.
func (d *Driver) Socket() string {
	return filepath.Join(d.config.Root, "plugins", d.config.Name, "csi.sock")
}

// RegistrationSocket is where it is asked who it is.
func (d *Driver) RegistrationSocket() string {
	return filepath.Join(d.config.Root, "plugins_registry", d.config.Name+"-reg.sock")
}

// Start starts a driver that does not run.
func (d *Driver) Start() error {
	node := grpc.NewServer(grpc.UnaryInterceptor(d.intercept))
	spec.RegisterNodeServer(node, d)
	reg := grpc.NewServer(grpc.UnaryInterceptor(d.intercept))
	registration.RegisterRegistrationServer(reg, d)
	if err := d.serve(node, d.Socket()); err != nil {
		return err
	}
	return d.serve(reg, d.RegistrationSocket())
}

func (d *Driver) serve(server *grpc.Server, socket string) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.servers = append(d.servers, server)
	d.mu.Unlock()
	d.serving.Go(func() { _ = server.Serve(listener) })
	return nil
}

// Stop ends the driver, which takes its sockets away. Its mounts stay.
func (d *Driver) Stop() {
	d.mu.Lock()
	servers := d.servers
	d.servers = nil
	for method, hanging := range d.hang {
		close(hanging)
		delete(d.hang, method)
	}
	d.mu.Unlock()
	for _, server := range servers {
		server.Stop()
	}
	d.serving.Wait()
}

// Fail has a method answer with an error from now on, or do what it is to do again
// if err is nil.
func (d *Driver) Fail(method string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail[method] = err
}

// Hang has a method do nothing until release is called, or the driver stopped.
func (d *Driver) Hang(method string) (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	hanging := make(chan struct{})
	d.hang[method] = hanging
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.hang[method] == hanging {
			close(hanging)
			delete(d.hang, method)
		}
	}
}

// Calls are those that came, in their order, but for questions.
func (d *Driver) Calls() []Call {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Call(nil), d.calls...)
}

// Methods are the calls' names, in their order, with a space between.
func (d *Driver) Methods() string {
	var names []string
	for _, c := range d.Calls() {
		names = append(names, c.Method)
	}
	return strings.Join(names, " ")
}

// Last is the request of the last call of a method, nil if there was none.
func (d *Driver) Last(method string) proto.Message {
	var last proto.Message
	for _, c := range d.Calls() {
		if c.Method == method {
			last = c.Request
		}
	}
	return last
}

// Notice is the next thing that the agent has told of the registration.
func (d *Driver) Notice(ctx context.Context) (*registration.RegistrationStatus, error) {
	select {
	case n := <-d.notices:
		return n, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// intercept records calls, and has them fail or hang.
func (d *Driver) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	method := filepath.Base(info.FullMethod)
	d.mu.Lock()
	if strings.HasPrefix(method, "Node") && method != "NodeGetCapabilities" && method != "NodeGetInfo" {
		d.calls = append(d.calls, Call{method, request.(proto.Message)})
	}
	err, hanging := d.fail[method], d.hang[method]
	if of, ok := request.(interface{ GetVolumeId() string }); ok {
		// One thing at a time, as the specification wants it.
		id := of.GetVolumeId()
		if d.busy[id] {
			d.mu.Unlock()
			return nil, status.Errorf(codes.Aborted, "something else is done with volume %s", id)
		}
		d.busy[id] = true
		defer func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			delete(d.busy, id)
		}()
	}
	d.mu.Unlock()
	if hanging != nil {
		<-hanging
	}
	if err != nil {
		return nil, err
	}
	return handle(ctx, request)
}

// GetInfo implements the registration.
func (d *Driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: d.config.Type, Name: d.config.Name, Endpoint: d.Socket(), SupportedVersions: d.config.Versions}, nil
}

// NotifyRegistrationStatus implements the registration.
func (d *Driver) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	d.notices <- s
	return &registration.RegistrationStatusResponse{}, nil
}
