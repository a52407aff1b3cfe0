package pod

// ProbeKind is one of the three probes that a container can have.
type ProbeKind string

// The kinds of probe.
const (
	Liveness  ProbeKind = "Liveness"
	Readiness ProbeKind = "Readiness"
	Startup   ProbeKind = "Startup"
)

// Result is what a probe has said of a container so far, after thresholds.
type Result int

// The results of a probe.
const (
	// ResultUnknown: no threshold was reached yet.
	ResultUnknown Result = iota
	ResultSuccess
	ResultFailure
)

// ProbeResults are the results of one container incarnation's probes. A kind
// that the container does not have is ResultUnknown; the container's spec says
// what that means (no liveness probe: alive; no readiness probe: ready).
type ProbeResults struct {
	// ContainerID is the incarnation that the results are of. Results of
	// another incarnation say nothing.
	ContainerID string
	Liveness    Result
	Readiness   Result
	Startup     Result
	// Message is the output of the newest failure.
	Message string
}

// Probes are the probe results of a pod's containers by container name. Only
// package probe makes them. A nil map is valid and says nothing.
type Probes map[string]ProbeResults

// Of returns the results for the named container, if they are of the
// incarnation id; otherwise results that say nothing.
func (p Probes) Of(name, id string) ProbeResults {
	if r, ok := p[name]; ok && r.ContainerID == id {
		return r
	}
	return ProbeResults{ContainerID: id}
}
