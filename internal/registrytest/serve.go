package registrytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// token is what the token service gives; it is good for everything.
const token = "registrytest-token"

// ServeHTTP answers as the registry does on its address.
func (r *Registry) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	repository, kind := target(request.URL.Path)
	fault := r.begin(request, repository)
	defer r.end(repository)
	if fault.Delay > 0 {
		timer := time.NewTimer(fault.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-request.Context().Done():
			return
		}
	}
	switch {
	case fault.Cut:
		panic(http.ErrAbortHandler)
	case fault.Status != 0:
		fail(w, fault.Status, "UNKNOWN", "fault of the test")
	case request.URL.Path == "/token":
		r.serveToken(w, request)
	case !r.authorized(request):
		r.challenge(w, repository)
	default:
		r.storage.ServeHTTP(w, request)
		if request.Method == http.MethodGet {
			r.served(kind)
		}
	}
}

// target takes a path such as /v2/team/app/manifests/1 apart.
func target(path string) (repository, kind string) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return "", ""
	}
	for _, kind := range []string{"manifests", "blobs"} {
		if i := strings.LastIndex(rest, "/"+kind+"/"); i > 0 {
			return rest[:i], kind
		}
	}
	return "", ""
}

func (r *Registry) begin(request *http.Request, repository string) Fault {
	r.mu.Lock()
	r.stats.Requests++
	if repository != "" {
		r.inFlight[repository]++
		r.stats.MaxConcurrent = max(r.stats.MaxConcurrent, len(r.inFlight))
	}
	fault := r.fault
	r.mu.Unlock()
	if fault == nil {
		return Fault{}
	}
	return fault(request)
}

func (r *Registry) end(repository string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inFlight[repository]--; r.inFlight[repository] <= 0 {
		delete(r.inFlight, repository)
	}
}

func (r *Registry) served(kind string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch kind {
	case "manifests":
		r.stats.Manifests++
	case "blobs":
		r.stats.Blobs++
	}
}

func (r *Registry) isOpen() bool {
	return r.options.Username == "" && r.options.Password == "" && r.options.IdentityToken == ""
}

func (r *Registry) authorized(request *http.Request) bool {
	if r.options.Bearer && !r.isOpen() {
		return request.Header.Get("Authorization") == "Bearer "+token
	}
	return r.isOpen() || r.hasPassword(request)
}

func (r *Registry) hasPassword(request *http.Request) bool {
	username, password, ok := request.BasicAuth()
	return ok && r.options.Username+r.options.Password != "" &&
		username == r.options.Username && password == r.options.Password
}

// challenge tells the client how to authenticate.
func (r *Registry) challenge(w http.ResponseWriter, repository string) {
	how := `Basic realm="registrytest"`
	if r.options.Bearer {
		how = fmt.Sprintf(`Bearer realm="http://%s/token",service="registrytest"`, r.Host)
		if repository != "" {
			how += fmt.Sprintf(`,scope="repository:%s:pull"`, repository)
		}
	}
	w.Header().Set("WWW-Authenticate", how)
	r.refuse(w)
}

func (r *Registry) refuse(w http.ResponseWriter) {
	r.mu.Lock()
	r.stats.Unauthorized++
	r.mu.Unlock()
	fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
}

// serveToken gives a token for a password by GET, and for an identity token,
// which is a refresh token of OAuth, by POST.
func (r *Registry) serveToken(w http.ResponseWriter, request *http.Request) {
	good := r.hasPassword(request)
	if request.Method == http.MethodPost {
		refresh := request.PostFormValue("refresh_token")
		good = refresh != "" && refresh == r.options.IdentityToken
		if request.PostFormValue("grant_type") == "password" {
			request.SetBasicAuth(request.PostFormValue("username"), request.PostFormValue("password"))
			good = r.hasPassword(request)
		}
	}
	if !good {
		r.refuse(w)
		return
	}
	answer(w, http.StatusOK, map[string]any{"token": token, "access_token": token, "expires_in": 300})
}

func fail(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}

func answer(w http.ResponseWriter, status int, document any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The client may have gone; that is its own business.
	_ = json.NewEncoder(w).Encode(document)
}
