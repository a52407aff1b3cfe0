package kubeapi

import (
	"net/http"
	"slices"
	"testing"

	certificates "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Each call on what is behind volumes goes where it is to go, and has the API
// server's answer for a result.
func TestStorage(t *testing.T) {
	s := newServer(t)
	named := metav1.ObjectMeta{Name: "x"}
	s.answer("GET /apis/storage.k8s.io/v1/csidrivers/x", http.StatusOK, &storage.CSIDriver{ObjectMeta: named})
	s.answer("GET /apis/storage.k8s.io/v1/volumeattachments/x", http.StatusOK, &storage.VolumeAttachment{ObjectMeta: named})
	s.answer("GET /apis/storage.k8s.io/v1/csinodes/x", http.StatusOK, &storage.CSINode{ObjectMeta: named})
	s.echo("POST /apis/storage.k8s.io/v1/csinodes")
	s.echo("PUT /apis/storage.k8s.io/v1/csinodes/x")
	s.answer("DELETE /apis/storage.k8s.io/v1/csinodes/x", http.StatusOK, &metav1.Status{Status: metav1.StatusSuccess})
	s.answer("GET /api/v1/namespaces/ns/secrets/x", http.StatusOK, &v1.Secret{ObjectMeta: named})
	s.answer("GET /api/v1/nodes/x", http.StatusOK, &v1.Node{ObjectMeta: named})
	c, ctx := s.client(), t.Context()
	node := &storage.CSINode{ObjectMeta: named, Spec: storage.CSINodeSpec{Drivers: []storage.CSINodeDriver{{Name: "d", NodeID: "n"}}}}
	for call, f := range map[string]func() (metav1.Object, error){
		"GET /apis/storage.k8s.io/v1/csidrivers/x?resourceVersion=0": func() (metav1.Object, error) { return c.CSIDriver(ctx, "x") },
		"GET /apis/storage.k8s.io/v1/volumeattachments/x":            func() (metav1.Object, error) { return c.VolumeAttachment(ctx, "x") },
		"GET /apis/storage.k8s.io/v1/csinodes/x":                     func() (metav1.Object, error) { return c.CSINode(ctx, "x") },
		"POST /apis/storage.k8s.io/v1/csinodes":                      func() (metav1.Object, error) { return c.CreateCSINode(ctx, node) },
		"PUT /apis/storage.k8s.io/v1/csinodes/x":                     func() (metav1.Object, error) { return c.UpdateCSINode(ctx, node) },
		"DELETE /apis/storage.k8s.io/v1/csinodes/x":                  func() (metav1.Object, error) { return node, c.DeleteCSINode(ctx, "x") },
		"GET /api/v1/namespaces/ns/secrets/x":                        func() (metav1.Object, error) { return c.StorageSecret(ctx, "ns", "x") },
		"GET /api/v1/nodes/x?timeout=10s":                            func() (metav1.Object, error) { return c.CurrentNode(ctx, "x") },
	} {
		got, err := f()
		if err != nil || got.GetName() != "x" {
			t.Errorf("%s: %v, %v", call, got, err)
		}
		if n, ok := got.(*storage.CSINode); ok && call[0] == 'P' && !slices.EqualFunc(n.Spec.Drivers, node.Spec.Drivers,
			func(a, b storage.CSINodeDriver) bool { return a.Name == b.Name && a.NodeID == b.NodeID }) {
			t.Errorf("%s: sent %+v", call, n.Spec)
		}
		if requests := s.take(); len(requests) != 1 || requests[0].Method+" "+requests[0].URL.String()[len("http://api"):] != call {
			t.Errorf("%s: made %d calls: %v", call, len(requests), requests)
		}
	}
	s.answer("GET /apis/certificates.k8s.io/v1/clustertrustbundles", http.StatusOK, &certificates.ClusterTrustBundleList{
		Items: []certificates.ClusterTrustBundle{{ObjectMeta: named}}})
	if got, err := c.ClusterTrustBundles(ctx); err != nil || len(got) != 1 || got[0].Name != "x" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := c.CSINode(ctx, "y"); !apierrors.IsNotFound(err) {
		t.Errorf("%v", err)
	}
}
