package simcluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// startTimeout bounds how long one part of the control plane may take to start.
const startTimeout = 2 * time.Minute

// Cluster is a running cluster. Its methods may be called concurrently.
type Cluster struct {
	options Options
	log     *slog.Logger
	dir     *dataDir
	network *network
	certs   *certificates
	proxy   *frontProxy
	admin   *rest.Config
	client  kubernetes.Interface
	fleet   *fleet

	mu sync.Mutex
	// parts are the parts of the control plane in the order in which they were
	// started. Guarded by mu.
	parts []*part
	// stopping: parts that end do so because they were asked to. Guarded by mu.
	stopping bool
	// err is why the cluster failed, valid after done was closed. Guarded by mu.
	err  error
	done chan struct{}

	stop    sync.Once
	stopErr error
}

// Start starts a cluster and returns when its control plane is ready: the API
// server answers, the namespaces default and kube-system exist, and the
// controller manager and the scheduler run. When ctx ends before, everything is
// undone; after Start has returned, ctx means nothing to the cluster.
//
// An *OptionError in the error says that the options cannot be had.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	setUpProcess(o.Logger)
	seedProcess(o.Seed)
	c := &Cluster{options: o, log: o.Logger, done: make(chan struct{})}
	c.fleet = newFleet(c)
	if err := c.start(ctx); err != nil {
		// The undoing must not be cut short by what made it necessary.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("starting the cluster: %w", err), c.Stop(undo))
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) (err error) {
	began := time.Now()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// The cheapest refusals first.
	if c.network, err = listen(c.options.Listen); err != nil {
		return err
	}
	if c.dir, err = openDataDir(c.options.Dir); err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(c.options.Listen)
	if c.certs, err = makeCertificates(c.dir.file("pki"), host); err != nil {
		return fmt.Errorf("making certificates: %w", err)
	}
	if c.proxy, err = newFrontProxy(c.network, c.certs); err != nil {
		return err
	}
	if c.admin, err = c.proxy.config(adminUser, "admin"); err != nil {
		return err
	}
	if c.client, err = kubernetes.NewForConfig(c.admin); err != nil {
		return fmt.Errorf("making the administrator's client: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready within %v", startTimeout))
	defer cancel()
	if err := c.startAPIServer(ctx); err != nil {
		return err
	}
	c.log.Debug("the API server is ready", "after", time.Since(began))
	if err := c.startControllers(ctx); err != nil {
		return err
	}
	if c.options.APILoad == Shared {
		if err := c.startHub(); err != nil {
			return err
		}
	}
	c.log.Debug("the control plane is ready", "after", time.Since(began))
	return nil
}

// startAPIServer starts etcd and the API server.
func (c *Cluster) startAPIServer(ctx context.Context) error {
	etcd, err := startEtcd(c.dir, c.log)
	if err != nil {
		return err
	}
	c.startPart("etcd", etcd.run)
	run, err := newAPIServer(ctx, c.network, c.certs, etcd, c.options.APIServerArgs)
	if err != nil {
		return err
	}
	apiServer := c.startPart(apiServerPart, run)
	return apiServer.until(ctx, apiServerReady(c.client))
}

const apiServerPart = "kube-apiserver"

// startControllers starts the controller manager and the scheduler, side by side.
func (c *Cluster) startControllers(ctx context.Context) error {
	var started sync.WaitGroup
	var kcmErr, schedulerErr error
	if !c.options.DisableControllerManager {
		started.Go(func() { kcmErr = c.startControllerManager(ctx) })
	}
	if !c.options.DisableScheduler {
		started.Go(func() { schedulerErr = c.startScheduler(ctx) })
	}
	started.Wait()
	return errors.Join(kcmErr, schedulerErr)
}

func (c *Cluster) startControllerManager(ctx context.Context) error {
	life, cancel := context.WithCancel(context.Background())
	m, err := newControllerManager(life, c.proxy, c.certs, c.options.ControllerManagerArgs)
	if err != nil {
		cancel()
		return err
	}
	ready := make(chan struct{})
	p := c.startPart(controllerManagerName, func(ctx context.Context) error {
		defer cancel()
		return m.run(ctx, ready)
	})
	return p.until(ctx, closed(ready))
}

func (c *Cluster) startScheduler(ctx context.Context) error {
	life, cancel := context.WithCancel(context.Background())
	client, err := c.proxy.config(schedulerUser, "kube-scheduler")
	if err != nil {
		cancel()
		return err
	}
	run, err := newScheduler(life, client, c.options.SchedulerArgs)
	if err != nil {
		cancel()
		return err
	}
	ready := make(chan struct{})
	p := c.startPart("kube-scheduler", func(ctx context.Context) error {
		defer cancel()
		return run(ctx, ready)
	})
	return p.until(ctx, closed(ready))
}

// startHub starts the watches that feed all agents.
func (c *Cluster) startHub() error {
	config, err := c.proxy.config(adminUser, "hub")
	if err != nil {
		return err
	}
	config.ContentType = runtime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making the hub's client: %w", err)
	}
	c.fleet.hub = newHub(client)
	c.startPart("hub", c.fleet.hub.run)
	return nil
}

// closed is a check of whether ch is closed.
func closed(ch <-chan struct{}) func(context.Context) error {
	return func(context.Context) error {
		select {
		case <-ch:
			return nil
		default:
			return errors.New("not running yet")
		}
	}
}

func (c *Cluster) startPart(name string, run func(context.Context) error) *part {
	p := startPart(name, run, c.fail)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parts = append(c.parts, p)
	return p
}

// fail notes that a part has ended by itself.
func (c *Cluster) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping || c.err != nil {
		return
	}
	c.err = err
	c.log.Error("The cluster has failed", "err", err)
	close(c.done)
}

// Done is closed when a part of the control plane has ended by itself.
func (c *Cluster) Done() <-chan struct{} { return c.done }

// Err is why Done was closed; nil before.
func (c *Cluster) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// RESTConfig is a client configuration for the cluster's administrator, over the
// in-memory network and without a limit of its own. The caller owns it.
func (c *Cluster) RESTConfig() *rest.Config { return rest.CopyConfig(c.admin) }

// Stop ends the agents and then the control plane, in reverse order of their
// start, and removes what is not to be kept. When ctx ends before, the error
// names the parts that had not stopped; files and ports are given up in any
// case. Only the first call does it; the others wait and return the same.
func (c *Cluster) Stop(ctx context.Context) error {
	c.stop.Do(func() { c.stopErr = c.stopAll(ctx) })
	return c.stopErr
}

func (c *Cluster) stopAll(ctx context.Context) error {
	c.mu.Lock()
	c.stopping = true
	parts := c.parts
	c.parts = nil
	c.mu.Unlock()

	c.fleet.stop()
	var errs []error
	for i := len(parts) - 1; i >= 0; i-- {
		began := time.Now()
		if parts[i].name == apiServerPart {
			// Nobody is left to be served; open watches must not hold it up.
			parts[i].cancel()
			c.network.hangUp()
		}
		errs = append(errs, parts[i].stop(ctx))
		c.log.Debug("stopped", "part", parts[i].name, "after", time.Since(began))
	}
	if c.proxy != nil {
		c.proxy.close()
	}
	if c.network != nil {
		errs = append(errs, c.network.Close())
	}
	if c.dir != nil {
		if err := c.dir.close(); err != nil {
			errs = append(errs, fmt.Errorf("removing the data directory: %w", err))
		}
	}
	return errors.Join(errs...)
}

// namespacesExist reports whether the namespaces exist that everybody counts on.
func namespacesExist(ctx context.Context, client kubernetes.Interface) error {
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem} {
		if _, err := client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); err != nil {
			if apierrors.IsNotFound(err) {
				return fmt.Errorf("the namespace %s does not exist yet", name)
			}
			return fmt.Errorf("looking for the namespace %s: %w", name, err)
		}
	}
	return nil
}
