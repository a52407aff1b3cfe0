// Package scenarios knows too much.
package scenarios

import (
	"github.com/docker/docker/client"
	"github.com/google/cadvisor/manager"
	"github.com/moby/moby/client"
	"k8s.io/kubernetes/pkg/kubelet"
)
