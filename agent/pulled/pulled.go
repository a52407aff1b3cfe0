// Package pulled remembers which images the agent has pulled and with whose
// credentials, so that a pod gets an image that is on the node only if it could
// have pulled it. See
// https://kubernetes.io/docs/concepts/containers/images/#ensureimagepullcredentialverification.
//
// What is remembered is kept in files in the kubelet's format (files.go). An image
// of which nothing is known was on the node before, or was brought there by
// somebody else: the policy says what holds for those.
package pulled

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"nodelet/agent/podruntime"
)

// Records are what one agent remembers. All methods may be called concurrently.
type Records struct {
	policy Policy
	files  *files
	log    *slog.Logger

	mu sync.Mutex
	// intents are the images that are being pulled, or were when an agent died,
	// with how many pull them now.
	intents map[string]int
	// images are the records by the images' IDs.
	images map[string]*kubeletconfig.ImagePulledRecord
	// unread are the file names of records that could not be read: nobody is known
	// to have access to those.
	unread map[string]bool
}

// New reads what agents before have left in a directory, the kubelet's
// image_manager; "" keeps all in memory alone. What cannot be read is logged.
func New(dir string, policy Policy, log *slog.Logger) (*Records, error) {
	r := &Records{policy: policy, log: log, intents: map[string]int{},
		images: map[string]*kubeletconfig.ImagePulledRecord{}, unread: map[string]bool{}}
	if dir == "" {
		return r, nil
	}
	r.files = &files{dir: dir}
	if err := r.files.make(); err != nil {
		return nil, fmt.Errorf("making the directory of records of pulled images: %w", err)
	}
	return r, r.load()
}

// Pulling notes that an image, as a container's spec names it, is about to be
// pulled. It must be followed by Pulled or Failed, unless it is an error.
func (r *Records) Pulling(image string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.intents[image]; !known && r.files != nil {
		if err := r.files.writeIntent(image); err != nil {
			return fmt.Errorf("noting that image %s is about to be pulled: %w", image, err)
		}
	}
	r.intents[image]++
	return nil
}

// Pulled notes that an image was pulled, which has the ID, and with the credential
// of which secret: nil for none, or for one of the node's own, which all pods have.
func (r *Records) Pulled(image, id string, by *kubeletconfig.ImagePullSecret) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.add(image, id, by); err != nil {
		// The note that it was about to be pulled stays, so that it is nobody's.
		r.log.Error("Could not note that an image was pulled", "image", image, "err", err)
		return
	}
	r.done(image)
}

// Failed notes that a pull has come to nothing.
func (r *Records) Failed(image string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done(image)
}

func (r *Records) done(image string) {
	if r.intents[image]--; r.intents[image] > 0 {
		return
	}
	if r.files != nil {
		if err := r.files.removeIntent(image); err != nil {
			r.log.Error("Could not remove the note that an image is about to be pulled", "image", image, "err", err)
			return
		}
	}
	delete(r.intents, image)
}

// MayUse reports whether a pod may use an image that is on the node, as its
// container's spec names it, without pulling it; pod returns the secrets that the
// pod has for the image and is called only where they matter.
func (r *Records) MayUse(image string, found podruntime.Image, pod func() []kubeletconfig.ImagePullSecret) bool {
	r.mu.Lock()
	record := r.images[found.ID]
	ours := record != nil || r.unread[fileName(found.ID)] || r.isPulling(image, found.Names)
	var known kubeletconfig.ImagePullCredentials
	if record != nil {
		known = record.CredentialMapping[repository(image)]
	}
	r.mu.Unlock()
	switch {
	case !r.policy.verifies(image, ours), known.NodePodsAccessible:
		return true
	case len(known.KubernetesSecrets) == 0:
		return false
	}
	for _, secret := range pod() {
		if !slices.ContainsFunc(known.KubernetesSecrets, func(k kubeletconfig.ImagePullSecret) bool { return matches(k, secret) }) {
			continue
		}
		r.learn(image, found.ID, len(known.KubernetesSecrets), secret)
		return true
	}
	return false
}

// maxLearned is up to how many secrets of an image more are noted when they turn
// out to be as good.
const maxLearned = 100

// learn notes that a secret is as good as one that is known, so that it still is
// when it has been changed.
func (r *Records) learn(image, id string, known int, secret kubeletconfig.ImagePullSecret) {
	if known >= maxLearned {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.add(image, id, &secret); err != nil {
		r.log.Error("Could not note who may use an image", "image", image, "err", err)
	}
}

// matches reports whether two secrets are one, or hold the same credential.
func matches(a, b kubeletconfig.ImagePullSecret) bool {
	return a.CredentialHash != "" && a.CredentialHash == b.CredentialHash || isSame(a, b)
}

func isSame(a, b kubeletconfig.ImagePullSecret) bool {
	return a.UID == b.UID && a.Namespace == b.Namespace && a.Name == b.Name
}

// isPulling reports whether an image is being pulled under any of its names.
func (r *Records) isPulling(image string, names []string) bool {
	if len(r.intents) == 0 {
		return false
	}
	all := map[string]bool{image: true}
	for _, name := range append(slices.Clip(names), image) {
		if normal, err := podruntime.NormalizeImage(name); err == nil {
			all[normal] = true
		}
	}
	for intent := range r.intents {
		normal, err := podruntime.NormalizeImage(intent)
		if all[intent] || err == nil && all[normal] {
			return true
		}
	}
	return false
}

// add puts who may use an image into its record, if that is news.
func (r *Records) add(image, id string, by *kubeletconfig.ImagePullSecret) error {
	old := r.images[id]
	next := &kubeletconfig.ImagePulledRecord{ImageRef: id}
	if old != nil {
		next = old.DeepCopy()
	}
	if !merge(next, repository(image), by) {
		return nil
	}
	next.LastUpdatedTime = metav1.NewTime(time.Now())
	if r.files != nil {
		if err := r.files.writeRecord(next); err != nil {
			return err
		}
	}
	r.images[id] = next
	delete(r.unread, fileName(id))
	return nil
}

// merge reports whether by was news.
func merge(record *kubeletconfig.ImagePulledRecord, repository string, by *kubeletconfig.ImagePullSecret) bool {
	known := record.CredentialMapping[repository]
	switch {
	case known.NodePodsAccessible:
		return false
	case by == nil:
		known = kubeletconfig.ImagePullCredentials{NodePodsAccessible: true}
	default:
		i := slices.IndexFunc(known.KubernetesSecrets, func(k kubeletconfig.ImagePullSecret) bool { return isSame(k, *by) })
		switch {
		case i < 0:
			known.KubernetesSecrets = append(known.KubernetesSecrets, *by)
			slices.SortFunc(known.KubernetesSecrets, func(a, b kubeletconfig.ImagePullSecret) int {
				return strings.Compare(a.Namespace+"/"+a.Name+"/"+a.UID, b.Namespace+"/"+b.Name+"/"+b.UID)
			})
		case known.KubernetesSecrets[i] == *by:
			return false
		default:
			known.KubernetesSecrets[i] = *by
		}
	}
	if record.CredentialMapping == nil {
		record.CredentialMapping = map[string]kubeletconfig.ImagePullCredentials{}
	}
	record.CredentialMapping[repository] = known
	return true
}

// repository is an image's name without its tag and its digest.
func repository(image string) string {
	name, _, _ := strings.Cut(image, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name = name[:colon]
	}
	return name
}
