package agent

import (
	"strings"
	"testing"

	"nodelet/agent/kubeapi"
	"nodelet/agent/pod"
)

func TestStaticPodConfig(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*Config)
		sources int
		fault   string
	}{
		"none":      {func(*Config) {}, 1, ""},
		"path":      {func(c *Config) { c.StaticPodPath = "/etc/kubernetes/manifests" }, 2, ""},
		"both":      {func(c *Config) { c.StaticPodPath, c.StaticPodURL = "manifests", "https://pods.example/list" }, 3, ""},
		"no host":   {func(c *Config) { c.StaticPodURL = "http:///list" }, 2, "StaticPodURL"},
		"no scheme": {func(c *Config) { c.StaticPodURL = "pods.example/list" }, 2, "StaticPodURL"},
		"file":      {func(c *Config) { c.StaticPodURL = "file:///etc/pods" }, 2, "StaticPodURL"},
		"never":     {func(c *Config) { c.FileCheckFrequency = 0 }, 1, "FileCheckFrequency"},
		"before":    {func(c *Config) { c.HTTPCheckFrequency = -1 }, 1, "HTTPCheckFrequency"},
	} {
		t.Run(name, func(t *testing.T) {
			config := DefaultConfig()
			config.NodeName = "n"
			c.change(&config)
			err := config.Validate()
			if c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
				t.Errorf("error %v, want one of %q", err, c.fault)
			}
			if got := (&Agent{config: config, deps: Deps{API: &kubeapi.Client{}}}).sources(); len(got) != c.sources || got[0] != pod.SourceAPI {
				t.Errorf("sources %q", got)
			}
		})
	}
}
