package pulled

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"nodelet/agent/podruntime"
)

const (
	app   = "registry.example/team/app:1"
	appID = "sha256:aaaa"
)

func secret(name, hash string) kubeletconfig.ImagePullSecret {
	return kubeletconfig.ImagePullSecret{UID: "uid-" + name, Namespace: "ns", Name: name, CredentialHash: hash}
}

func newRecords(t *testing.T, dir string, policy Policy) *Records {
	t.Helper()
	r, err := New(dir, policy, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pull pulls an image with a secret's credential, or with none.
func pull(t *testing.T, r *Records, image, id string, by ...kubeletconfig.ImagePullSecret) {
	t.Helper()
	if err := r.Pulling(image); err != nil {
		t.Fatal(err)
	}
	if len(by) == 0 {
		r.Pulled(image, id, nil)
	}
	for i := range by {
		r.Pulled(image, id, &by[i])
	}
}

func mayUse(r *Records, image, id string, pod ...kubeletconfig.ImagePullSecret) bool {
	found := podruntime.Image{ID: id, Names: []string{image}}
	return r.MayUse(image, found, func() []kubeletconfig.ImagePullSecret { return pod })
}

func TestWhoMayUseAnImage(t *testing.T) {
	dir := t.TempDir()
	r := newRecords(t, dir, Policy{})
	// Every agent after this one knows what it knew.
	for _, step := range []struct {
		what string
		do   func()
		want map[string]bool
	}{
		{"nothing was pulled", func() {}, map[string]bool{"": true, "a": true}},
		{"pulled with a", func() { pull(t, r, app, appID, secret("a", "1")) },
			map[string]bool{"": false, "a": true, "b": false, "same as a": true}},
		{"a was changed", func() {}, map[string]bool{"a later": true}},
		{"and is remembered as it is now", func() {}, map[string]bool{"": false, "same as a later": true, "same as a": true, "c": false}},
		{"pulled with c as well", func() { pull(t, r, app, appID, secret("c", "3")) }, map[string]bool{"": false, "a": true, "c": true}},
		{"pulled without any", func() { pull(t, r, app, appID) }, map[string]bool{"": true, "b": true}},
		{"and once more with c", func() { pull(t, r, app, appID, secret("c", "3")) }, map[string]bool{"": true, "b": true}},
	} {
		step.do()
		pods := map[string][]kubeletconfig.ImagePullSecret{"": nil, "a": {secret("a", "1")}, "b": {secret("b", "2")}, "c": {secret("c", "3")},
			"same as a": {secret("b", "2"), secret("x", "1")}, "a later": {secret("a", "4")}, "same as a later": {secret("y", "4")}}
		for pod, want := range step.want {
			for _, records := range []*Records{r, newRecords(t, dir, Policy{})} {
				if got := mayUse(records, app, appID, pods[pod]...); got != want {
					t.Errorf("%s: a pod with %q may use the image: %v", step.what, pod, got)
				}
			}
			r = newRecords(t, dir, Policy{})
		}
	}
}

func TestOtherNamesOfAnImage(t *testing.T) {
	r := newRecords(t, "", Policy{})
	pull(t, r, app, appID, secret("a", "1"))
	for image, want := range map[string]bool{
		"registry.example/team/app:2":           true,
		"registry.example/team/app":             true,
		"registry.example/team/app@sha256:bbbb": true,
		"registry.example:5000/team/app":        false,
		"registry.example/other/app:1":          false,
	} {
		if got := mayUse(r, image, appID, secret("a", "1")); got != want {
			t.Errorf("the credential for %s is good for %s: %v", app, image, got)
		}
	}
}

// An agent that dies while it pulls leaves an image that nobody is known to have
// access to.
func TestDeathWhilePulling(t *testing.T) {
	dir := t.TempDir()
	if err := newRecords(t, dir, Policy{}).Pulling("busybox:1"); err != nil {
		t.Fatal(err)
	}
	r := newRecords(t, dir, Policy{})
	for _, image := range []string{"busybox:1", "docker.io/library/busybox:1"} {
		if mayUse(r, image, appID) {
			t.Errorf("%s may be used", image)
		}
	}
	byDigest := podruntime.Image{ID: appID, Names: []string{"busybox:1", "busybox@sha256:" + strings.Repeat("a", 64)}}
	if r.MayUse("busybox@sha256:"+strings.Repeat("a", 64), byDigest, nil) {
		t.Error("by its digest it may be used")
	}
	if !mayUse(r, "busybox:2", "sha256:bbbb") {
		t.Error("another image may not be used")
	}
	pull(t, r, "busybox:1", appID)
	if entries, err := os.ReadDir(filepath.Join(dir, pulling)); err != nil || len(entries) > 0 {
		t.Errorf("what is being pulled: %v, %v", entries, err)
	}
	if !mayUse(newRecords(t, dir, Policy{}), "busybox:1", appID) {
		t.Error("pulled again it may not be used")
	}
}

func TestTwoPullsAtOnce(t *testing.T) {
	r := newRecords(t, t.TempDir(), Policy{})
	for range 2 {
		if err := r.Pulling(app); err != nil {
			t.Fatal(err)
		}
	}
	r.Failed(app)
	if mayUse(r, app, appID) {
		t.Error("while the other pull is under way the image may be used")
	}
	r.Failed(app)
	if !mayUse(r, app, appID) {
		t.Error("an image that was there before may not be used")
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	r := newRecords(t, dir, Policy{})
	pull(t, r, app, appID, secret("a", "1"))
	path := filepath.Join(dir, "pulled", fileName(appID))
	data, err := os.ReadFile(path)
	var object map[string]any
	if err != nil || json.Unmarshal(data, &object) != nil {
		t.Fatalf("%s, %v", data, err)
	}
	delete(object, "lastUpdatedTime")
	got, _ := json.Marshal(object)
	want := `{"apiVersion":"kubelet.config.k8s.io/v1beta1","credentialMapping":{"registry.example/team/app":{"kubernetesSecrets":` +
		`[{"credentialHash":"1","name":"a","namespace":"ns","uid":"uid-a"}]}},"imageRef":"sha256:aaaa","kind":"ImagePulledRecord"}`
	if string(got) != want {
		t.Errorf("the record is\n%s, want\n%s", got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its file: %v, %v", info.Mode(), err)
	}
	// Nobody is known to have access to what cannot be read.
	for _, broken := range []string{"", "{", `{"imageRef":"sha256:other"}`} {
		if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		r := newRecords(t, dir, Policy{})
		if mayUse(r, app, appID, secret("a", "1")) {
			t.Errorf("with a record %q the image may be used", broken)
		}
		pull(t, r, app, appID, secret("a", "1"))
		if !mayUse(r, app, appID, secret("a", "1")) || mayUse(r, app, appID) {
			t.Errorf("after a record %q it is not known who may use the image", broken)
		}
	}
}

// What cannot be written down is not forgotten.
func TestDiskFails(t *testing.T) {
	dir := t.TempDir()
	r := newRecords(t, dir, Policy{})
	if err := r.Pulling(app); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "pulled")); err != nil {
		t.Fatal(err)
	}
	by := secret("a", "1")
	r.Pulled(app, appID, &by)
	for _, records := range []*Records{r, newRecords(t, dir, Policy{})} {
		if mayUse(records, app, appID) {
			t.Error("everybody may use the image")
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "pulling")); err != nil {
		t.Fatal(err)
	}
	if err := r.Pulling("other"); err == nil {
		t.Error("a pull begins that is not noted")
	}
}

func TestPolicy(t *testing.T) {
	list := []string{"registry.example/base/*", "registry.example/team/app"}
	for _, test := range []struct {
		policy    Policy
		image     string
		ours, yes bool
	}{
		{Policy{}, app, false, false},
		{Policy{}, app, true, true},
		{Policy{Name: "NeverVerifyPreloadedImages"}, app, false, false},
		{Policy{Name: "NeverVerifyPreloadedImages"}, app, true, true},
		{Policy{Name: "NeverVerify"}, app, true, false},
		{Policy{Name: "AlwaysVerify"}, app, false, true},
		{Policy{"NeverVerifyAllowlistedImages", list}, app, true, false},
		{Policy{"NeverVerifyAllowlistedImages", list}, "registry.example/team/app2:1", false, true},
		{Policy{"NeverVerifyAllowlistedImages", list}, "registry.example/base/a/b@sha256:aa", true, false},
		{Policy{"NeverVerifyAllowlistedImages", list}, "registry.example/based", true, true},
	} {
		if got := test.policy.verifies(test.image, test.ours); got != test.yes {
			t.Errorf("%+v verifies %s, ours %v: %v", test.policy, test.image, test.ours, got)
		}
		if faults := test.policy.Validate(); len(faults) > 0 {
			t.Errorf("%+v: %v", test.policy, faults)
		}
	}
	bad := Policy{"Perhaps", []string{"a:1", "*", "a*", "/*", " a", "a/*/b", "a@sha256:" + strings.Repeat("a", 64)}}
	if faults := bad.Validate(); len(faults) != 2+len(bad.Allowlist) {
		t.Errorf("faults of %+v: %v", bad, faults)
	}
}
