package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"nodelet/agent"
)

// heeded are the fields of KubeletConfiguration that have an effect, by their
// path in the file.
var heeded = sets.New(
	"staticPodPath", "staticPodURL", "staticPodURLHeader", "fileCheckFrequency", "httpCheckFrequency",
	"healthzPort", "healthzBindAddress", "clusterDomain", "clusterDNS", "resolvConf",
	"syncFrequency", "nodeStatusUpdateFrequency", "nodeStatusReportFrequency", "nodeLeaseDurationSeconds",
	"registerNode", "registerWithTaints", "providerID", "maxPods",
	"systemReserved", "kubeReserved", "evictionHard", "mergeDefaultEvictionSettings",
	"kubeAPIQPS", "kubeAPIBurst", "eventRecordQPS", "eventBurst",
	"cgroupRoot", "cgroupsPerQOS", "cgroupDriver", "runtimeRequestTimeout",
	"serializeImagePulls", "maxParallelImagePulls", "containerLogMaxSize", "containerLogMaxFiles", "podLogsDir",
	"imagePullCredentialsVerificationPolicy", "preloadedImagesVerificationAllowlist",
	"crashLoopBackOff.maxContainerRestartPeriod", "logging.format", "logging.verbosity",
)

// asIs are the values, of fields that are not heeded, that say what the agent
// does anyway.
var asIs = map[string]string{
	"contentType":                  `"application/vnd.kubernetes.protobuf"`,
	"cpuManagerPolicy":             `"none"`,
	"memoryManagerPolicy":          `"None"`,
	"topologyManagerPolicy":        `"none"`,
	"topologyManagerScope":         `"container"`,
	"enableControllerAttachDetach": "true",
	"failSwapOn":                   "false",
	"failCgroupV1":                 "false",
	"nodeStatusMaxImages":          "50",
	"protectKernelDefaults":        "false",
	"seccompDefault":               "false",
}

// applyConfig sets o to what the file says. As with the kubelet, zero and empty
// mean the default. It returns a warning for each field that has no effect.
func applyConfig(o *options, c *kubeletconfig.KubeletConfiguration) []string {
	applyNode(o, c)
	applyConnection(o, c)
	applyRuntime(o, c)
	applyStatic(&o.agent, c)

	var warnings []string
	for _, field := range setFields(reflect.ValueOf(c).Elem(), "") {
		value, err := json.Marshal(field.value.Interface())
		if err == nil && !heeded.Has(field.path) && asIs[field.path] != string(value) {
			warnings = append(warnings, fmt.Sprintf("%s: %s has no effect: the agent does not support this field", field.path, value))
		}
	}
	slices.Sort(warnings)
	return warnings
}

func applyNode(o *options, c *kubeletconfig.KubeletConfiguration) {
	a := &o.agent
	setTo(&a.NodeStatusUpdateFrequency, c.NodeStatusUpdateFrequency.Duration)
	// Who sets only the first of the two wants reports as often.
	setTo(&a.NodeStatusReportFrequency, c.NodeStatusUpdateFrequency.Duration)
	setTo(&a.NodeStatusReportFrequency, c.NodeStatusReportFrequency.Duration)
	setTo(&a.NodeLeaseDuration, time.Duration(c.NodeLeaseDurationSeconds)*time.Second)
	setToValue(&a.RegisterNode, c.RegisterNode)
	setTo(&a.ProviderID, c.ProviderID)
	setTo(&a.MaxPods, int(c.MaxPods))
	setTo(&a.SyncFrequency, c.SyncFrequency.Duration)
	setTo(&a.ClusterDomain, c.ClusterDomain)
	setToValue(&a.ResolvConf, c.ResolverConfig)
	if len(c.ClusterDNS) > 0 {
		a.ClusterDNS = c.ClusterDNS
	}
	if p := c.CrashLoopBackOff.MaxContainerRestartPeriod; p != nil {
		a.MaxContainerRestartPeriod = p.Duration
	}
	if len(c.RegisterWithTaints) > 0 {
		a.RegisterWithTaints = c.RegisterWithTaints
	}
	o.systemReserved, o.kubeReserved = c.SystemReserved, c.KubeReserved
	if c.EvictionHard != nil {
		o.evictionHard = c.EvictionHard
	}
	setToValue(&o.mergeEvictionDefaults, c.MergeDefaultEvictionSettings)
	setTo(&o.healthz.address, c.HealthzBindAddress)
	if c.HealthzPort != nil {
		o.healthz.port = int(*c.HealthzPort)
	}
	setTo(&o.log.format, c.Logging.Format)
	setTo(&o.log.verbosity, int(c.Logging.Verbosity))
}

func applyConnection(o *options, c *kubeletconfig.KubeletConfiguration) {
	if c.KubeAPIQPS != nil {
		o.api.QPS = float32(*c.KubeAPIQPS)
	}
	setTo(&o.api.Burst, int(c.KubeAPIBurst))
	if c.EventRecordQPS != nil {
		o.api.EventQPS = float32(*c.EventRecordQPS)
	}
	setTo(&o.api.EventBurst, int(c.EventBurst))
}

func applyStatic(a *agent.Config, c *kubeletconfig.KubeletConfiguration) {
	setTo(&a.StaticPodPath, c.StaticPodPath)
	setTo(&a.StaticPodURL, c.StaticPodURL)
	if len(c.StaticPodURLHeader) > 0 {
		a.StaticPodURLHeader = http.Header(c.StaticPodURLHeader)
	}
	setTo(&a.FileCheckFrequency, c.FileCheckFrequency.Duration)
	setTo(&a.HTTPCheckFrequency, c.HTTPCheckFrequency.Duration)
}

func applyRuntime(o *options, c *kubeletconfig.KubeletConfiguration) {
	setTo(&o.agent.CgroupRoot, c.CgroupRoot)
	setTo(&o.agent.CgroupDriver, c.CgroupDriver)
	setToValue(&o.agent.CgroupsPerQOS, c.CgroupsPerQOS)
	setTo(&o.agent.RuntimeRequestTimeout, c.RuntimeRequestTimeout.Duration)
	setToValue(&o.serializeImagePulls, c.SerializeImagePulls)
	setTo(&o.containerLogMaxSize, c.ContainerLogMaxSize)
	setTo(&o.agent.PodLogsDir, c.PodLogsDir)
	setTo(&o.agent.ImagePulls.Name, c.ImagePullCredentialsVerificationPolicy)
	if len(c.PreloadedImagesVerificationAllowlist) > 0 {
		o.agent.ImagePulls.Allowlist = c.PreloadedImagesVerificationAllowlist
	}
	if c.MaxParallelImagePulls != nil {
		o.agent.MaxParallelImagePulls = int(*c.MaxParallelImagePulls)
	}
	if c.ContainerLogMaxFiles != nil {
		o.runtime.LogMaxFiles = int(*c.ContainerLogMaxFiles)
	}
}

// setTo sets what is not empty.
func setTo[T comparable](to *T, from T) {
	var zero T
	if from != zero {
		*to = from
	}
}

// setToValue sets what is there, be it empty.
func setToValue[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// setField is a field of a file that is not empty.
type setField struct {
	path  string
	value reflect.Value
}

// setFields are the fields of a struct, those of structs in it instead of
// themselves, that are not empty. The type's name and version are not among
// them.
func setFields(v reflect.Value, at string) []setField {
	var fields []setField
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name == "" {
			continue
		}
		f := v.Field(i)
		_, isScalar := f.Addr().Interface().(json.Unmarshaler)
		switch {
		case f.Kind() == reflect.Struct && !isScalar:
			fields = append(fields, setFields(f, at+name+".")...)
		case f.IsZero() || f.Kind() == reflect.Map && f.Len() == 0 || f.Kind() == reflect.Slice && f.Len() == 0:
		default:
			fields = append(fields, setField{at + name, f})
		}
	}
	return fields
}
