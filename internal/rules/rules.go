package rules

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
)

// layers are the agent's packages by layer. A package imports from its own and
// higher up only as imports says.
var layers = map[string]int{
	"agent/pod": 0, "agent/podruntime": 0, "agent/podruntime/podruntimetest": 0,
	"agent/plan": 1, "agent/podstatus": 1, "agent/admit": 1, "agent/evict": 1, "agent/podenv": 1, "agent/credentials": 1,
	"agent/source": 2, "agent/desired": 2, "agent/mirror": 2, "agent/worker": 2, "agent/observe": 2, "agent/probe": 2,
	"agent/volume": 2, "agent/pulled": 2, "agent/publish": 2, "agent/node": 2, "agent/stats": 2, "agent/server": 2,
	"agent/docker": 3, "agent/cadvisor": 3, "agent/kubeapi": 3, "agent/machine": 3, "agent/csi": 3,
	"agent": 4,
}

// only says which packages alone may import what, by prefix of the import path.
var only = []struct {
	prefix, instead string
	allowed         []string
	// within limits the rule to a folder; empty for all.
	within string
}{
	{prefix: "k8s.io/kubernetes", allowed: []string{"simcluster"},
		instead: "have simcluster do it"},
	{prefix: "github.com/docker/docker", allowed: []string{"agent/docker", "internal/dockertest"},
		instead: "go through podruntime"},
	{prefix: "github.com/moby/moby", allowed: []string{"agent/docker"},
		instead: "go through podruntime"},
	{prefix: "github.com/google/cadvisor", allowed: []string{"agent/cadvisor"},
		instead: "go through stats.Provider"},
	{prefix: "github.com/container-storage-interface", allowed: []string{"agent/csi"}, within: "agent",
		instead: "go through volume.CSI"},
	{prefix: "k8s.io/client-go", allowed: []string{"agent/kubeapi"}, within: "agent",
		instead: "declare a small interface that kubeapi.Client satisfies"},
}

// Imports checks who imports whom.
func Imports(files []*File) []string {
	var faults []string
	for _, f := range files {
		for _, imported := range f.Imports() {
			if why := importFault(f, imported); why != "" {
				faults = append(faults, fmt.Sprintf("%s imports %s: %s", f.Name, imported, why))
			}
		}
	}
	return faults
}

func importFault(f *File, imported string) string {
	for _, rule := range only {
		if !below(imported, rule.prefix) || rule.within != "" && !below(f.Package, rule.within) {
			continue
		}
		allowed := false
		for _, pkg := range rule.allowed {
			allowed = allowed || below(f.Package, pkg)
		}
		if !allowed {
			return fmt.Sprintf("only %s may; %s", strings.Join(rule.allowed, ", "), rule.instead)
		}
	}
	target, isOwn := own(imported)
	if !isOwn || !below(f.Package, "agent") && !below(f.Package, "cmd/agent") {
		return ""
	}
	for _, simulation := range []string{"fakeruntime", "simcluster", "scenarios", "cmd/sim"} {
		if below(target, simulation) {
			return "nothing of the agent, tests included, knows the simulation"
		}
	}
	if !below(f.Package, "agent") || !below(target, "agent") {
		return ""
	}
	return layerFault(f.Package, target)
}

func layerFault(from, to string) string {
	a, known := layers[from]
	if !known {
		return "this package has no layer yet; give it one in internal/rules"
	}
	b, known := layers[to]
	switch {
	case !known:
		return "the imported package has no layer yet; give it one in internal/rules"
	case a == 4 || b == 0 || from == to:
		return ""
	case a == 3:
		return "an adapter imports only values and contracts (layer 0)"
	case b > a:
		return fmt.Sprintf("layer %d does not import layer %d; declare a small interface here", a, b)
	case a == 2 && b == 2:
		return "parts do not know each other; declare a small interface here and let agent.go wire it"
	}
	return ""
}

// pure are the packages that decide and do nothing else.
var pure = []string{"agent/pod", "agent/plan", "agent/podstatus", "agent/admit", "agent/evict", "agent/podenv", "agent/credentials"}

// impure are the imports and names that a pure package must not have.
var (
	impureImports = []string{"os", "net", "io/ioutil", "log", "context", "sync", "syscall"}
	impureNames   = []string{"time.Now", "time.Sleep", "time.After", "time.Since", "time.Until", "time.NewTimer",
		"time.AfterFunc", "time.NewTicker", "time.Tick"}
)

// Pure checks that pure packages read no clock, do no I/O and start nothing.
func Pure(files []*File) []string {
	var faults []string
	for _, f := range files {
		if f.Test || !slices.Contains(pure, f.Package) {
			continue
		}
		for _, imported := range f.Imports() {
			if slices.ContainsFunc(impureImports, func(dir string) bool { return below(imported, dir) }) {
				faults = append(faults, fmt.Sprintf("%s imports %s: a pure package takes what it needs as arguments", f.Name, imported))
			}
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			if _, ok := n.(*ast.GoStmt); ok {
				faults = append(faults, f.at(n.Pos())+": a pure package starts no goroutine; return an action")
			}
			if name := f.Qualified(n); slices.Contains(impureNames, name) {
				faults = append(faults, fmt.Sprintf("%s: %s in a pure package; take the time as an argument", f.at(n.Pos()), name))
			}
			return true
		})
	}
	return faults
}

// Injected checks that randomness and settings come through Deps and Config.
func Injected(files []*File) []string {
	var faults []string
	for _, f := range files {
		if f.Test || !below(f.Package, "agent") && !below(f.Package, "fakeruntime") {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			name := f.Qualified(n)
			switch {
			case slices.Contains([]string{"os.Getenv", "os.LookupEnv", "os.Environ", "os.ExpandEnv"}, name):
				faults = append(faults, fmt.Sprintf("%s: %s; settings come through Config", f.at(n.Pos()), name))
			case isGlobalRandom(name):
				faults = append(faults, fmt.Sprintf("%s: %s; randomness comes from Deps.Rand, so that runs repeat", f.at(n.Pos()), name))
			}
			return true
		})
	}
	return faults
}

// isGlobalRandom reports whether name is a function of a package for random
// numbers that draws from the package's own source: all but the constructors
// and the types.
func isGlobalRandom(name string) bool {
	for _, prefix := range []string{"math/rand.", "math/rand/v2."} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return !strings.HasPrefix(rest, "New") &&
				!slices.Contains([]string{"Rand", "Source", "Source64", "PCG", "ChaCha8", "Zipf"}, rest)
		}
	}
	// The helper of apimachinery that spreads delays.
	return strings.HasPrefix(name, "k8s.io/apimachinery/pkg/util/wait.Jitter")
}
