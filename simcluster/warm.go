package simcluster

import (
	_ "go.etcd.io/etcd/server/v3/embed"
	_ "k8s.io/kubernetes/cmd/kube-apiserver/app"
	_ "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	_ "k8s.io/kubernetes/cmd/kube-scheduler/app"
	_ "k8s.io/kubernetes/cmd/kube-scheduler/app/options"
	_ "k8s.io/component-helpers/apimachinery/lease"
	_ "k8s.io/component-helpers/node/util"
	_ "k8s.io/component-helpers/resource"
	_ "k8s.io/kubelet/config/v1beta1"
	_ "github.com/spf13/pflag"
	_ "github.com/google/cel-go/cel"
	_ "sigs.k8s.io/yaml"
	_ "k8s.io/cri-streaming/pkg/streaming"
)
