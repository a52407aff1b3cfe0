package simcluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/config"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"
	"k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/profile"
)

// schedulerFlags are the flags that are not upstream's defaults.
var schedulerFlags = []string{
	"--leader-elect=false",
	"--secure-port=0",
	// Only read to make clients that are then replaced.
	"--master=https://" + apiServerHost,
}

// newScheduler makes a scheduler that is a client with the given configuration;
// run runs it, and closes ready when it schedules.
//
// It is put together from what upstream exports, and not by app.Setup and
// app.Run: these make clients from files only, and register a name process-wide
// that a second scheduler cannot have.
func newScheduler(ctx context.Context, client *rest.Config, args []string) (run func(ctx context.Context, ready chan<- struct{}) error, err error) {
	o := options.NewOptions()
	flags := flagSet("kube-scheduler", *o.Flags)
	if err := flags.Parse(append(slices.Clone(schedulerFlags), args...)); err != nil {
		return nil, &OptionError{"SchedulerArgs", fmt.Errorf("flags of the kube-scheduler: %w", err)}
	}
	if o.ComponentConfig, err = latest.Default(); err != nil {
		return nil, fmt.Errorf("configuring the kube-scheduler: %w", err)
	}
	if errs := o.Validate(); len(errs) > 0 {
		return nil, &OptionError{"SchedulerArgs", fmt.Errorf("options of the kube-scheduler: %w", errors.Join(errs...))}
	}
	c, err := o.Config(ctx)
	if err != nil {
		return nil, &OptionError{"SchedulerArgs", fmt.Errorf("configuring the kube-scheduler: %w", err)}
	}
	if err := useClient(ctx, c, client); err != nil {
		return nil, fmt.Errorf("configuring the kube-scheduler: %w", err)
	}

	cc := c.Complete()
	s, err := scheduler.New(ctx, cc.Client, cc.InformerFactory, cc.DynInformerFactory,
		profile.RecorderFactory(func(name string) events.EventRecorderLogger { return cc.EventBroadcaster.NewRecorder(name) }),
		scheduler.WithComponentConfigVersion(cc.ComponentConfig.APIVersion),
		scheduler.WithKubeConfig(cc.KubeConfig),
		scheduler.WithProfiles(cc.ComponentConfig.Profiles...),
		scheduler.WithPercentageOfNodesToScore(cc.ComponentConfig.PercentageOfNodesToScore),
		scheduler.WithPodMaxBackoffSeconds(cc.ComponentConfig.PodMaxBackoffSeconds),
		scheduler.WithPodInitialBackoffSeconds(cc.ComponentConfig.PodInitialBackoffSeconds),
		scheduler.WithPodMaxInUnschedulablePodsDuration(cc.PodMaxInUnschedulablePodsDuration),
		scheduler.WithExtenders(cc.ComponentConfig.Extenders...),
		scheduler.WithParallelism(cc.ComponentConfig.Parallelism),
	)
	if err != nil {
		return nil, fmt.Errorf("making the kube-scheduler: %w", err)
	}

	return func(ctx context.Context, ready chan<- struct{}) error {
		cc.EventBroadcaster.StartRecordingToSink(ctx.Done())
		defer cc.EventBroadcaster.Shutdown()
		cc.InformerFactory.Start(ctx.Done())
		cc.DynInformerFactory.Start(ctx.Done())
		cc.InformerFactory.WaitForCacheSync(ctx.Done())
		cc.DynInformerFactory.WaitForCacheSync(ctx.Done())
		if err := s.WaitForHandlersSync(ctx); err != nil {
			return fmt.Errorf("waiting for the informers: %w", err)
		}
		close(ready)
		s.Run(ctx)
		cc.InformerFactory.Shutdown()
		cc.DynInformerFactory.Shutdown()
		return nil
	}, nil
}

// useClient replaces the clients in c, which were made from a file.
func useClient(ctx context.Context, c *config.Config, client *rest.Config) error {
	client = rest.CopyConfig(client)
	client.AcceptContentTypes = c.KubeConfig.AcceptContentTypes
	client.ContentType = c.KubeConfig.ContentType
	client.UserAgent = userAgent("kube-scheduler", "")
	clientset, err := kubernetes.NewForConfig(client)
	if err != nil {
		return err
	}
	eventClient, err := kubernetes.NewForConfig(client)
	if err != nil {
		return err
	}
	dynamicClient, err := dynamic.NewForConfig(client)
	if err != nil {
		return err
	}
	c.KubeConfig = client
	c.Client = clientset
	c.EventBroadcaster.Shutdown()
	c.EventBroadcaster = events.NewEventBroadcasterAdapterWithContext(ctx, eventClient)
	c.InformerFactory = scheduler.NewInformerFactory(clientset, 0, nil)
	c.DynInformerFactory = dynamicinformer.NewFilteredDynamicSharedInformerFactory(dynamicClient, 0, "", nil)
	return nil
}
