package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A real process reads the cluster's trust anchors; the pod waits for those that
// are yet to come.
func TestTrustBundle(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "trust")
	c.apply(t, ns, pod("p", `"volumes":[{"name":"v","projected":{"sources":[{"clusterTrustBundle":{"name":"`+ns+`","path":"ca.pem"}}]}}],`,
		`"volumeMounts":[{"name":"v","mountPath":"/trust"}]`))
	roots, err := c.kube.CoreV1().ConfigMaps(ns).Get(t.Context(), "kube-root-ca.crt", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	anchor := roots.Data["ca.crt"]
	bundle, err := json.Marshal(anchor)
	if err != nil {
		t.Fatal(err)
	}
	missing := fmt.Sprintf(`MountVolume.SetUp failed for volume "v" : while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io %q not found`, ns)
	c.eventually(t, "the pod says what it waits for", 30*time.Second, func(ctx context.Context) error {
		return c.hasEvent(ctx, ns, "p", "FailedMount", missing)
	})
	t.Cleanup(func() { c.kubectl(t, "", "delete", "clustertrustbundle", ns) })
	c.apply(t, ns, fmt.Sprintf(`{"apiVersion":"certificates.k8s.io/v1","kind":"ClusterTrustBundle","metadata":{"name":%q},"spec":{"trustBundle":%s}}`, ns, bundle))
	p := c.ready(t, ns, "", 1)[0]
	c.inside(t, &p, "c").reads("/trust/ca.pem", anchor)
}
