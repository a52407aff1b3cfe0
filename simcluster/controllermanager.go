package simcluster

import (
	"context"
	"errors"
	"fmt"
	"os"

	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/controller-manager/pkg/clientbuilder"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/config"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"
	serviceaccountcontroller "k8s.io/kubernetes/pkg/controller/serviceaccount"
	"k8s.io/kubernetes/pkg/serviceaccount"
)

const controllerManagerName = "kube-controller-manager"

// controllerManagerFlags are the flags that are not upstream's defaults.
func controllerManagerFlags(certs *certificates) []string {
	return []string{
		"--leader-elect=false",
		"--secure-port=0",
		// Only read to make clients that are then replaced.
		"--master=https://" + apiServerHost,
		"--use-service-account-credentials=true",
		"--root-ca-file=" + certs.file("ca.crt"),
		"--service-account-private-key-file=" + certs.file("sa.key"),
		"--cluster-signing-cert-file=" + certs.file("ca.crt"),
		"--cluster-signing-key-file=" + certs.file("ca.key"),
		"--service-cluster-ip-range=" + serviceCIDR,
		// As many at once as the largest scenarios need.
		"--concurrent-deployment-syncs=20",
		"--concurrent-replicaset-syncs=50",
		"--concurrent-statefulset-syncs=20",
		"--concurrent-daemonset-syncs=10",
		"--concurrent-job-syncs=20",
		"--concurrent-gc-syncs=50",
		"--concurrent-endpoint-syncs=10",
		"--concurrent-service-endpoint-syncs=10",
		"--concurrent-namespace-syncs=20",
	}
}

// controllerManager is a kube-controller-manager. It is put together from what
// upstream exports, and not by app.Run, which registers names process-wide that a
// second one cannot have, and whose controllers cannot be given clients.
type controllerManager struct {
	config  *config.CompletedConfig
	root    clientbuilder.ControllerClientBuilder
	clients clientbuilder.ControllerClientBuilder
}

// newControllerManager makes a controller manager of the cluster that p leads to.
func newControllerManager(ctx context.Context, p *frontProxy, certs *certificates, args []string) (*controllerManager, error) {
	o, err := options.NewKubeControllerManagerOptions()
	if err != nil {
		return nil, fmt.Errorf("making the options of the kube-controller-manager: %w", err)
	}
	all, disabled, aliases := app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases()
	flags := flagSet("kube-controller-manager", o.Flags(all, disabled, aliases))
	if err := flags.Parse(append(controllerManagerFlags(certs), args...)); err != nil {
		return nil, &OptionError{"ControllerManagerArgs", fmt.Errorf("flags of the kube-controller-manager: %w", err)}
	}
	c, err := o.Config(ctx, all, disabled, aliases)
	if err != nil {
		return nil, &OptionError{"ControllerManagerArgs", fmt.Errorf("configuring the kube-controller-manager: %w", err)}
	}

	client, err := p.config(controllerManagerUser, controllerManagerName)
	if err != nil {
		return nil, fmt.Errorf("configuring the kube-controller-manager: %w", err)
	}
	client.ContentConfig = c.Kubeconfig.ContentConfig
	client.UserAgent = userAgent(controllerManagerName, "")
	c.Kubeconfig = client
	if c.Client, err = kubernetes.NewForConfig(client); err != nil {
		return nil, fmt.Errorf("configuring the kube-controller-manager: %w", err)
	}
	self := func(string) user { return controllerManagerUser }
	root := &controllerClients{proxy: p, content: client.ContentConfig, user: self}
	m := &controllerManager{config: c.Complete(), root: root, clients: root}
	if c.ComponentConfig.KubeCloudShared.UseServiceAccountCredentials {
		m.clients = &controllerClients{proxy: p, content: client.ContentConfig, user: controllerUser}
	}
	return m, nil
}

// run runs the controllers and closes ready when they are running.
func (m *controllerManager) run(ctx context.Context, ready chan<- struct{}) error {
	m.config.EventBroadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: m.config.Client.CoreV1().Events("")})
	defer m.config.EventBroadcaster.Shutdown()

	c, err := m.context(ctx)
	if err != nil {
		return err
	}
	// The controller of service account tokens needs a client of more power
	// than the others, and cannot be built from its descriptor.
	descriptors := app.NewControllerDescriptors()
	delete(descriptors, names.ServiceAccountTokenController)
	tokens, err := newTokenController(ctx, c, m.root)
	if err != nil {
		return fmt.Errorf("building the controller %s: %w", names.ServiceAccountTokenController, err)
	}
	controllers, err := app.BuildControllers(ctx, c, descriptors, nil, noHealthChecks{})
	if err != nil {
		return fmt.Errorf("building controllers: %w", err)
	}

	c.InformerFactory.Start(ctx.Done())
	defer c.InformerFactory.Shutdown()
	c.ObjectOrMetadataInformerFactory.Start(ctx.Done())
	close(c.InformersStarted)
	close(ready)
	if !app.RunControllers(ctx, c, append(controllers, tokens), app.ControllerStartJitter, m.config.ControllerShutdownTimeout) {
		return errors.New("controllers did not end in time")
	}
	return nil
}

// context is upstream's context of the controllers. Its informers' name, which is
// only good for metrics, is given back at once: it may be needed a second time.
func (m *controllerManager) context(ctx context.Context) (app.ControllerContext, error) {
	controllerContexts.Lock()
	defer controllerContexts.Unlock()
	c, err := app.CreateControllerContext(ctx, m.config, m.root, m.clients)
	if err != nil {
		return c, fmt.Errorf("making the controllers' context: %w", err)
	}
	c.InformerFactory.InformerName().Release()
	return c, nil
}

type noHealthChecks struct{}

func (noHealthChecks) AddHealthChecker(...healthz.HealthChecker) {}

// tokenController is the controller serviceaccount-token as an app.Controller.
type tokenController struct {
	*serviceaccountcontroller.TokensController
	workers int
}

func newTokenController(ctx context.Context, c app.ControllerContext, clients clientbuilder.ControllerClientBuilder) (*tokenController, error) {
	sa := c.ComponentConfig.SAController
	key, err := keyutil.PrivateKeyFromFile(sa.ServiceAccountKeyFile)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(sa.RootCAFile)
	if err != nil {
		return nil, err
	}
	generator, err := serviceaccount.JWTTokenGenerator(serviceaccount.LegacyIssuer, key)
	if err != nil {
		return nil, err
	}
	client, err := clients.Client("tokens-controller")
	if err != nil {
		return nil, err
	}
	tokens, err := serviceaccountcontroller.NewTokensController(klog.FromContext(ctx),
		c.InformerFactory.Core().V1().ServiceAccounts(), c.InformerFactory.Core().V1().Secrets(), client,
		serviceaccountcontroller.TokensControllerOptions{TokenGenerator: generator, RootCA: ca})
	return &tokenController{tokens, int(sa.ConcurrentSATokenSyncs)}, err
}

func (c *tokenController) Name() string { return names.ServiceAccountTokenController }

func (c *tokenController) Run(ctx context.Context) { c.TokensController.Run(ctx, c.workers) }

// controllerClients gives each controller a client. Acting as the controller's
// service account, as --use-service-account-credentials asks for, does not take
// an account, a token and a connection for each.
type controllerClients struct {
	proxy   *frontProxy
	content rest.ContentConfig
	// user is as whom the named controller acts.
	user func(name string) user
}

func (b *controllerClients) Config(name string) (*rest.Config, error) {
	config, err := b.proxy.config(b.user(name), controllerManagerName)
	if err != nil {
		return nil, err
	}
	config.ContentConfig = b.content
	config.UserAgent = userAgent(controllerManagerName, name)
	return config, nil
}

func (b *controllerClients) Client(name string) (kubernetes.Interface, error) {
	config, err := b.Config(name)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

func (b *controllerClients) DiscoveryClient(name string) (discovery.DiscoveryInterface, error) {
	config, err := b.Config(name)
	if err != nil {
		return nil, err
	}
	return discovery.NewDiscoveryClientForConfig(config)
}

// must stands for the fatal errors that upstream's builders have here: the
// configuration is right or wrong for all controllers alike.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("making a controller's client: %v", err))
	}
	return v
}

func (b *controllerClients) ConfigOrDie(name string) *rest.Config { return must(b.Config(name)) }
func (b *controllerClients) ClientOrDie(name string) kubernetes.Interface {
	return must(b.Client(name))
}
func (b *controllerClients) DiscoveryClientOrDie(name string) discovery.DiscoveryInterface {
	return must(b.DiscoveryClient(name))
}
