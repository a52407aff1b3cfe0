package main

import (
	"maps"
	"time"

	"nodelet/agent"
	"nodelet/agent/kubeapi"
)

// options are what the configuration file and the flags say, the quantities and
// lists among them not yet read. settle makes settings of them.
type options struct {
	version bool

	kubeconfig string
	apiServers []string
	api        kubeapi.Options

	// agent is the part that is the agent's own. Its NodeName and NodeIPs are
	// set by settle.
	agent            agent.Config
	hostnameOverride string
	nodeIP           string

	systemReserved, kubeReserved map[string]string
	evictionHard                 map[string]string
	mergeEvictionDefaults        bool

	// config is the path of a configuration file, or of static pods.
	config string

	serializeImagePulls bool
	runtime             runtimeOptions
	containerLogMaxSize string

	healthz healthzOptions
	log     logOptions
}

// runtimeOptions are the container runtime's.
type runtimeOptions struct {
	// Endpoint is where Docker Engine listens: unix:///var/run/docker.sock.
	Endpoint string
	// RootDir is where the agent keeps what belongs to its pods.
	RootDir string
	// PodInfraContainerImage is the image of the sandboxes; empty for our own.
	PodInfraContainerImage string
	// LogMaxSize is the size in bytes at which a container's log is rotated;
	// LogMaxFiles how many files there are of it at most.
	LogMaxSize  int64
	LogMaxFiles int
	// ImagePullProgressDeadline ends a pull of which nothing more comes.
	ImagePullProgressDeadline time.Duration
}

// defaultOptions are the kubelet's.
func defaultOptions() options {
	o := options{
		api:   kubeapi.DefaultOptions(),
		agent: agent.DefaultConfig(),
		runtime: runtimeOptions{
			Endpoint:                  "unix:///var/run/docker.sock",
			LogMaxFiles:               5,
			ImagePullProgressDeadline: time.Minute,
		},
		containerLogMaxSize: "10Mi",
		evictionHard:        maps.Clone(defaultEvictionHard),
		healthz:             healthzOptions{address: "127.0.0.1", port: 10248},
		log:                 logOptions{format: logText},
	}
	o.api.UserAgent = "nodelet-agent/" + version
	return o
}
