package simcluster

import (
	"context"
	"fmt"
	"net"

	"github.com/spf13/pflag"
	apiextensionsapiserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apimachinery/pkg/runtime"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/kubernetes"
	cliflag "k8s.io/component-base/cli/flag"
	aggregatorscheme "k8s.io/kube-aggregator/pkg/apiserver/scheme"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/controlplane"
	controlplaneapiserver "k8s.io/kubernetes/pkg/controlplane/apiserver"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"
)

const (
	serviceCIDR = "10.0.0.0/16"
	// advertiseAddress is the API server's address as the cluster sees it. No
	// one dials it; it only must not be a loopback address.
	advertiseAddress = "172.16.0.1"
)

// apiServerFlags are the flags that are not upstream's defaults.
func apiServerFlags(certs *certificates, etcdURL string) []string {
	return []string{
		"--etcd-servers=" + etcdURL,
		"--tls-cert-file=" + certs.file("apiserver.crt"),
		"--tls-private-key-file=" + certs.file("apiserver.key"),
		"--client-ca-file=" + certs.file("ca.crt"),
		"--requestheader-client-ca-file=" + certs.file("front-proxy-ca.crt"),
		"--requestheader-allowed-names=" + frontProxyName,
		"--requestheader-username-headers=" + userHeader,
		"--requestheader-group-headers=" + groupHeader,
		"--requestheader-extra-headers-prefix=" + extraHeaderPrefix,
		"--proxy-client-cert-file=" + certs.file(frontProxyName+".crt"),
		"--proxy-client-key-file=" + certs.file(frontProxyName+".key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-signing-key-file=" + certs.file("sa.key"),
		"--service-account-key-file=" + certs.file("sa.key"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--service-cluster-ip-range=" + serviceCIDR,
		"--advertise-address=" + advertiseAddress,
		"--allow-privileged=true",
		// The service "kubernetes" has no endpoint: there is no address on
		// which pods could reach the API server.
		"--endpoint-reconciler-type=none",
		// One client more or less must not make the others wait: thousands of
		// agents come from one machine.
		"--max-requests-inflight=3000",
		"--max-mutating-requests-inflight=1000",
		"--profiling=false",
		// Metrics that nobody reads.
		"--etcd-count-metric-poll-period=0",
		"--etcd-db-metric-poll-interval=0",
	}
}

// newAPIServer makes an API server that listens on n and is ready to run. Its
// runner must be run, if only for a moment, or what it has made is leaked.
func newAPIServer(ctx context.Context, n *network, certs *certificates, etcd *etcdServer, args []string) (run func(context.Context) error, err error) {
	o := options.NewServerRunOptions()
	flags := flagSet("kube-apiserver", o.Flags())
	if err := flags.Parse(append(apiServerFlags(certs, etcd.url), args...)); err != nil {
		return nil, &OptionError{"APIServerArgs", fmt.Errorf("flags of the kube-apiserver: %w", err)}
	}
	addr := n.Addr().(*net.TCPAddr)
	o.SecureServing.Listener = n
	o.SecureServing.BindAddress, o.SecureServing.BindPort = addr.IP, addr.Port

	if err := o.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return nil, &OptionError{"APIServerArgs", fmt.Errorf("feature gates of the kube-apiserver: %w", err)}
	}
	completed, err := o.Complete(ctx)
	if err != nil {
		return nil, fmt.Errorf("completing the options of the kube-apiserver: %w", err)
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return nil, &OptionError{"APIServerArgs", fmt.Errorf("options of the kube-apiserver: %w", utilerrors.NewAggregate(errs))}
	}
	config, err := newAPIServerConfig(completed, n, certs)
	if err != nil {
		return nil, fmt.Errorf("configuring the kube-apiserver: %w", err)
	}
	completedConfig, err := config.Complete()
	if err != nil {
		return nil, fmt.Errorf("configuring the kube-apiserver: %w", err)
	}
	// From here on etcd is needed, and goroutines are started.
	if err := etcd.ready(ctx); err != nil {
		return nil, err
	}
	chain, err := app.CreateServerChain(completedConfig)
	if err != nil {
		return nil, fmt.Errorf("making the kube-apiserver: %w", err)
	}
	prepared, err := chain.PrepareRun()
	if err != nil {
		return nil, fmt.Errorf("preparing the kube-apiserver: %w", err)
	}
	if n.direct != nil {
		n.direct.serve(chain.GenericAPIServer.Handler)
	}
	return prepared.Run, nil
}

// newAPIServerConfig does what app.NewConfig does, and in between redirects the
// loopback client, with which the API server talks to itself, to n.
func newAPIServerConfig(o options.CompletedOptions, n *network, certs *certificates) (*app.Config, error) {
	generic, informers, storage, err := controlplaneapiserver.BuildGenericConfig(o.CompletedOptions,
		[]*runtime.Scheme{legacyscheme.Scheme, apiextensionsapiserver.Scheme, aggregatorscheme.Scheme},
		controlplane.DefaultAPIResourceConfigSource(), generatedopenapi.GetOpenAPIDefinitions, nil)
	if err != nil {
		return nil, err
	}
	if generic.LoopbackClientConfig, err = redirectLoopback(generic.LoopbackClientConfig, informers, n); err != nil {
		return nil, err
	}
	if generic.Authentication.Authenticator, err = withFrontProxy(generic.Authentication.Authenticator, certs); err != nil {
		return nil, err
	}

	if n.direct != nil && n.tcp == nil {
		// It downloads each API group's OpenAPI every second, for kubectl.
		generic.DisabledPostStartHooks.Insert("apiservice-openapiv3-controller")
	}
	config := &app.Config{Options: o}
	kube, services, admission, err := app.CreateKubeAPIServerConfig(o, generic, informers, storage)
	if err != nil {
		return nil, err
	}
	config.KubeAPIs = kube
	// The place to give the API server a dialer to the agents' HTTPS APIs, for
	// kubectl logs, exec and port-forward, is kube.Extra.KubeletClientConfig
	// (its Lookup field) together with kube.ControlPlane.ProxyTransport.

	plane := kube.ControlPlane
	authInfo := webhook.NewDefaultAuthenticationInfoResolverWrapper(plane.ProxyTransport,
		plane.Generic.EgressSelector, plane.Generic.LoopbackClientConfig, plane.Generic.TracerProvider)
	config.ApiExtensions, err = controlplaneapiserver.CreateAPIExtensionsConfig(*plane.Generic, plane.VersionedInformers,
		admission, o.CompletedOptions, o.MasterCount, services, authInfo)
	if err != nil {
		return nil, err
	}
	config.Aggregator, err = controlplaneapiserver.CreateAggregatorConfig(*plane.Generic, o.CompletedOptions,
		plane.VersionedInformers, services, plane.ProxyTransport, plane.Extra.PeerProxy, admission)
	return config, err
}

// flagSet is one flag set out of a component's named ones.
func flagSet(name string, named cliflag.NamedFlagSets) *pflag.FlagSet {
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	for _, f := range named.FlagSets {
		flags.AddFlagSet(f)
	}
	return flags
}

// apiServerReady reports whether the API server has started completely: all its
// start-up hooks are done, and the namespaces that everybody counts on exist.
func apiServerReady(client kubernetes.Interface) func(context.Context) error {
	return func(ctx context.Context) error {
		result := client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx)
		if err := result.Error(); err != nil {
			return fmt.Errorf("the API server is not ready: %w", err)
		}
		return namespacesExist(ctx, client)
	}
}
