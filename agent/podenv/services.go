package podenv

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// apiService is the API server's service, in the namespace default: a pod sees
// it whatever its namespace and its enableServiceLinks.
const apiService = "kubernetes"

// addServices adds the variables of the services that the pod sees, by name.
func (r *resolver) addServices() {
	links := r.Pod.Spec.EnableServiceLinks == nil || *r.Pod.Spec.EnableServiceLinks
	seen := map[string]*v1.Service{}
	var names []string
	for _, s := range r.Services {
		own := s.Namespace == r.Pod.Namespace && links
		api := s.Namespace == v1.NamespaceDefault && s.Name == apiService
		if !own && !api || s.Spec.ClusterIP == "" || s.Spec.ClusterIP == v1.ClusterIPNone {
			continue
		}
		before, known := seen[s.Name]
		switch {
		case !known:
			names = append(names, s.Name)
			seen[s.Name] = s
		case before.Namespace != r.Pod.Namespace:
			// A service of its own that is called kubernetes hides the other.
			seen[s.Name] = s
		}
	}
	slices.Sort(names)
	for _, name := range names {
		r.addService(seen[name])
	}
}

// addService adds a service's variables: host and ports, and those that Docker
// made of a link.
func (r *resolver) addService(s *v1.Service) {
	prefix, ip := variableName(s.Name), s.Spec.ClusterIP
	r.set(prefix+"_SERVICE_HOST", ip)
	for i, p := range s.Spec.Ports {
		number := strconv.Itoa(int(p.Port))
		if i == 0 {
			r.set(prefix+"_SERVICE_PORT", number)
		}
		if p.Name != "" {
			r.set(prefix+"_SERVICE_PORT_"+variableName(p.Name), number)
		}
	}
	for i, p := range s.Spec.Ports {
		protocol := strings.ToLower(string(p.Protocol))
		if protocol == "" {
			protocol = "tcp"
		}
		number := strconv.Itoa(int(p.Port))
		url := protocol + "://" + hostPort(ip, number)
		if i == 0 {
			r.set(prefix+"_PORT", url)
		}
		port := fmt.Sprintf("%s_PORT_%s_%s", prefix, number, strings.ToUpper(protocol))
		r.set(port, url)
		r.set(port+"_PROTO", protocol)
		r.set(port+"_PORT", number)
		r.set(port+"_ADDR", ip)
	}
}

func variableName(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }

func hostPort(ip, port string) string {
	if isIPv6(ip) {
		return "[" + ip + "]:" + port
	}
	return ip + ":" + port
}

func isIPv6(ip string) bool { return strings.Contains(ip, ":") }
