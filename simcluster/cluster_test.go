package simcluster

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
)

func TestTwoClustersAtOnceAndAgain(t *testing.T) {
	checkNothingLeft(t)
	for range 2 {
		var clusters sync.WaitGroup
		for range 2 {
			clusters.Go(func() {
				c, err := Start(t.Context(), Options{Listen: "127.0.0.1:0"})
				if err != nil {
					t.Errorf("Start: %v", err)
					return
				}
				if err := c.AddNodes(t.Context(), NodeGroup{Name: "n", Count: 3}); err != nil {
					t.Errorf("AddNodes: %v", err)
				}
				waitNodesReady(t, c, 3)
				addr := c.network.tcp.Addr().String()
				stop(t, c)
				if conn, err := net.Dial("tcp", addr); err == nil {
					conn.Close()
					t.Errorf("%s still listens after Stop", addr)
				}
				select {
				case <-c.Done():
					t.Errorf("a stopped cluster says it has failed: %v", c.Err())
				default:
				}
			})
		}
		clusters.Wait()
	}
}

func TestKubectl(t *testing.T) {
	c := startCluster(t, Options{Listen: "127.0.0.1:0", DisableScheduler: true, DisableControllerManager: true})
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteKubeconfig(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: mode %v, %v; want 0600", info.Mode(), err)
	}
	kubectl := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), "kubectl", append([]string{"--kubeconfig", path}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("kubectl %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := kubectl("get", "namespaces", "-o", "name"); !strings.Contains(got, "namespace/default") || !strings.Contains(got, "namespace/kube-system") {
		t.Errorf("kubectl get namespaces: %s", got)
	}
	if got := kubectl("auth", "can-i", "*", "*"); got != "yes" {
		t.Errorf("kubectl auth can-i: %s, want yes", got)
	}
	if got := kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"); got != "kubernetes-admin" {
		t.Errorf("kubectl auth whoami: %s, want kubernetes-admin", got)
	}
}

// The certificate of the front proxy is what makes its headers trusted: from
// anybody else they must not be.
func TestHeadersNeedTheFrontProxy(t *testing.T) {
	c := startCluster(t, Options{DisableScheduler: true, DisableControllerManager: true})
	admin, err := tls.X509KeyPair(c.certs.admin.cert, c.certs.admin.key)
	if err != nil {
		t.Fatal(err)
	}
	whoami := func(cert *tls.Certificate) string {
		transport, err := c.network.newTransport(cert, c.certs.ca.cert, apiServerHost)
		if err != nil {
			t.Fatal(err)
		}
		defer utilnet.CloseIdleConnectionsFor(transport)
		config := c.RESTConfig()
		config.Transport = &asUser{next: transport, user: user{"mallory", []string{"system:masters"}}}
		review, err := kubernetes.NewForConfigOrDie(config).AuthenticationV1().SelfSubjectReviews().
			Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil {
			return string(apierrors.ReasonForError(err))
		}
		return review.Status.UserInfo.Username
	}
	for _, tc := range []struct {
		name string
		cert *tls.Certificate
		want string
	}{
		{"no certificate", nil, "Forbidden"},
		{"a person's certificate", &admin, "kubernetes-admin"},
		{"the front proxy's certificate", &c.proxy.cert, "mallory"},
	} {
		if got := whoami(tc.cert); got != tc.want {
			t.Errorf("%s: the API server takes it for %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestNodeIdentityIsRestricted(t *testing.T) {
	c := startCluster(t, Options{DisableControllerManager: true, DisableScheduler: true})
	if err := c.AddNodes(t.Context(), NodeGroup{Name: "n", Count: 2}); err != nil {
		t.Fatal(err)
	}
	waitNodesReady(t, c, 2)
	if _, err := c.client.CoreV1().Secrets("default").Create(t.Context(),
		&v1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	config, err := c.proxy.config(nodeUser("n-0000"), "test")
	if err != nil {
		t.Fatal(err)
	}
	node := kubernetes.NewForConfigOrDie(config)
	label := func(name string) error {
		_, err := node.CoreV1().Nodes().Patch(t.Context(), name, types.MergePatchType,
			[]byte(`{"metadata":{"annotations":{"a":"b"}}}`), metav1.PatchOptions{})
		return err
	}
	if err := label("n-0000"); err != nil {
		t.Errorf("patching its own node: %v", err)
	}
	if err := label("n-0001"); !apierrors.IsForbidden(err) {
		t.Errorf("patching another node: %v, want it to be forbidden", err)
	}
	if _, err := node.CoreV1().Secrets("default").Get(t.Context(), "s", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("reading a secret that no pod of the node uses: %v, want it to be forbidden", err)
	}
	if _, err := node.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("listing the pods of all nodes: %v, want it to be forbidden", err)
	}
}

func TestRefusals(t *testing.T) {
	checkNothingLeft(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name         string
		options      Options
		option, text string
	}{
		{"taken port", Options{Listen: taken.Addr().String()}, "Listen", taken.Addr().String() + ": address already in use"},
		{"unwritable directory", Options{Dir: filepath.Join(file, "data")}, "Dir", filepath.Join(file, "data") + ": not a directory"},
		{"public address", Options{Listen: "0.0.0.0:6443"}, "Listen", "loopback"},
		{"unknown flag", Options{APIServerArgs: []string{"--no-such-flag"}}, "APIServerArgs", "unknown flag: --no-such-flag"},
		{"bad flag of the controller manager", Options{ControllerManagerArgs: []string{"--node-monitor-period=x"}}, "ControllerManagerArgs", "--node-monitor-period"},
		{"bad flag of the scheduler", Options{SchedulerArgs: []string{"--kube-api-qps=x"}}, "SchedulerArgs", "--kube-api-qps"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := Start(t.Context(), tc.options)
			if err == nil {
				stop(t, c)
			}
			wantOptionError(t, err, tc.option, tc.text)
		})
	}
}

// A data directory is kept, held by one cluster at a time, and gone on from.
func TestDataDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	o := Options{Dir: dir, DisableControllerManager: true, DisableScheduler: true}
	first := startCluster(t, o)
	_, err := Start(t.Context(), o)
	wantOptionError(t, err, "Dir", "in use by another cluster")

	name := metav1.ObjectMeta{Name: "kept"}
	if _, err := first.client.CoreV1().Namespaces().Create(t.Context(), &v1.Namespace{ObjectMeta: name}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	stop(t, first)
	second := startCluster(t, o)
	if _, err := second.client.CoreV1().Namespaces().Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("an object of the first cluster: %v", err)
	}
	if string(first.certs.ca.cert) != string(second.certs.ca.cert) {
		t.Error("the authority is another one: old kubeconfigs are worthless")
	}
}

// Wherever a start is broken off, nothing is left.
func TestCancelDuringStart(t *testing.T) {
	for _, after := range []time.Duration{0, 200 * time.Millisecond, time.Second, 1700 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			checkNothingLeft(t)
			ctx, cancel := context.WithTimeoutCause(t.Context(), after, errors.New("enough"))
			defer cancel()
			c, err := Start(ctx, Options{Listen: "127.0.0.1:0"})
			if err == nil {
				// The machine is fast: that is no failure.
				stop(t, c)
				return
			}
			if !strings.Contains(err.Error(), "enough") {
				t.Errorf("Start: %v, want the context's cause", err)
			}
		})
	}
}

// A part that ends by itself shows.
func TestFailureShows(t *testing.T) {
	c, err := Start(t.Context(), Options{DisableControllerManager: true, DisableScheduler: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, c)
	if err := c.Err(); err != nil {
		t.Errorf("Err of a cluster that is well: %v", err)
	}
	c.startPart("volunteer", func(context.Context) error { return errors.New("tired") })
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("Done is not closed")
	}
	if err := c.Err(); err == nil || err.Error() != "volunteer ended by itself: tired" {
		t.Errorf("Err: %v", err)
	}
}
