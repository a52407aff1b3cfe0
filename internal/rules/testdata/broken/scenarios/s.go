// Package scenarios knows too much.
package scenarios

import (
	"github.com/docker/docker/client"
	"k8s.io/kubernetes/pkg/kubelet"
)
