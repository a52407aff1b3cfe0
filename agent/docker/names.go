package docker

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/kubelet/pkg/types"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// Labels of containers. Those that dockershim has are named as there;
// annotations of the container runtime interface have a prefix, for Docker has
// labels only.
const (
	labelType        = "io.kubernetes.docker.type"
	labelSandbox     = "io.kubernetes.sandbox.id"
	labelLogPath     = "io.kubernetes.container.logpath"
	labelHash        = "annotation.io.kubernetes.container.hash"
	labelRestarts    = "annotation.io.kubernetes.container.restartCount"
	labelMessagePath = "annotation.io.kubernetes.container.terminationMessagePath"
	labelPolicy      = "annotation.io.kubernetes.container.terminationMessagePolicy"
	labelPreStop     = "annotation.io.kubernetes.container.preStopHandler"
	labelGrace       = "annotation.io.kubernetes.pod.terminationGracePeriod"
	// labelImage is the reference in the container's spec; Docker is given the ID.
	labelImage    = "io.nodelet.container.image"
	labelImageRef = "io.nodelet.container.image-ref"
	// labelLogDirectory is a sandbox's directory for links to logs.
	labelLogDirectory = "io.nodelet.sandbox.logdirectory"

	typeSandbox   = "podsandbox"
	typeContainer = "container"
	sandboxName   = "POD"
)

func podLabels(p *v1.Pod) map[string]string {
	labels := map[string]string{}
	for key, value := range p.Labels {
		labels[key] = value
	}
	labels[types.KubernetesPodNameLabel] = p.Name
	labels[types.KubernetesPodNamespaceLabel] = p.Namespace
	labels[types.KubernetesPodUIDLabel] = string(p.UID)
	return labels
}

func sandboxLabels(c *podruntime.SandboxConfig) map[string]string {
	labels := podLabels(c.Pod)
	labels[types.KubernetesContainerNameLabel] = sandboxName
	labels[labelType] = typeSandbox
	labels[labelRestarts] = strconv.FormatUint(uint64(c.Attempt), 10)
	labels[labelLogDirectory] = c.LogDirectory
	return labels
}

func containerLabels(sandboxID string, c *podruntime.ContainerConfig) map[string]string {
	labels := podLabels(c.Pod)
	labels[types.KubernetesContainerNameLabel] = c.Container.Name
	labels[labelType] = typeContainer
	labels[labelSandbox] = sandboxID
	labels[labelRestarts] = strconv.FormatUint(uint64(c.Attempt), 10)
	labels[labelHash] = c.Hash
	labels[labelImage] = c.Container.Image
	labels[labelImageRef] = c.ImageRef
	labels[labelLogPath] = c.LogPath
	labels[labelMessagePath] = c.Container.TerminationMessagePath
	labels[labelPolicy] = string(c.Container.TerminationMessagePolicy)
	if h := pod.PreStop(c.Container); h != nil {
		labels[labelPreStop] = encodeHook(h, c.Container)
	}
	labels[labelGrace] = strconv.FormatInt(pod.TerminationGrace(c.Pod), 10)
	return labels
}

// containerName is the name of a pod's container in Docker. extra, where not
// empty, makes another name of it.
func containerName(p *v1.Pod, container string, attempt uint32, extra string) string {
	parts := []string{"k8s", container, p.Name, p.Namespace, string(p.UID), strconv.FormatUint(uint64(attempt), 10)}
	if extra != "" {
		parts = append(parts, extra)
	}
	return strings.Join(parts, "_")
}

// attemptOf reads the number of an incarnation back.
func attemptOf(labels map[string]string) uint32 {
	n, err := strconv.ParseUint(labels[labelRestarts], 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// graceOf reads a container's termination grace period back.
func graceOf(labels map[string]string) time.Duration {
	seconds, err := strconv.ParseInt(labels[labelGrace], 10, 64)
	if err != nil {
		return v1.DefaultTerminationGracePeriodSeconds * time.Second
	}
	return time.Duration(seconds) * time.Second
}

// encodeHook writes a hook for a label. A port is written as its number, for who
// reads it may not know the container's ports.
func encodeHook(h *v1.LifecycleHandler, c *v1.Container) string {
	h = h.DeepCopy()
	if h.HTTPGet != nil && h.HTTPGet.Port.Type == intstr.String {
		for _, port := range c.Ports {
			if port.Name == h.HTTPGet.Port.StrVal {
				h.HTTPGet.Port = intstr.FromInt32(port.ContainerPort)
				break
			}
		}
	}
	// A hook always marshals.
	data, err := json.Marshal(h)
	if err != nil {
		panic(fmt.Sprintf("marshalling a lifecycle hook: %v", err))
	}
	return string(data)
}

// preStopOf reads a container's preStop hook back; nil if it has none.
func preStopOf(labels map[string]string) *v1.LifecycleHandler {
	h := &v1.LifecycleHandler{}
	if s := labels[labelPreStop]; s == "" || json.Unmarshal([]byte(s), h) != nil {
		return nil
	}
	return h
}

// describe names a container for errors.
func describe(p *v1.Pod, container string) string {
	return fmt.Sprintf("%s of pod %s", container, pod.FullName(p))
}
