package csi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"

	"nodelet/agent/pod"
)

// source is a volume as its driver is told of it.
type source struct {
	volumeKey
	mode         storage.VolumeLifecycleMode
	fsType       string
	readOnly     bool
	accessMode   v1.PersistentVolumeAccessMode
	accessModes  []v1.PersistentVolumeAccessMode
	mountOptions []string
	attributes   map[string]string
	fsGroup      *int64
	// publishSecret and stageSecret go with the calls; nil for none.
	publishSecret, stageSecret *v1.SecretReference
}

// sourceOf says what a pod's volume is to its driver.
func sourceOf(v *pod.CSIVolume) *source {
	s := &source{readOnly: v.ReadOnly, accessMode: v1.ReadWriteOnce}
	if sc := v.Pod.Spec.SecurityContext; sc != nil {
		s.fsGroup = sc.FSGroup
	}
	if in := v.Inline; in != nil {
		s.mode = storage.VolumeLifecycleEphemeral
		s.volumeKey = volumeKey{in.Driver, fmt.Sprintf("csi-%x", sha256.Sum256([]byte(string(v.Pod.UID)+v.Name)))}
		s.attributes = maps.Clone(in.VolumeAttributes)
		if in.FSType != nil {
			s.fsType = *in.FSType
		}
		if ref := in.NodePublishSecretRef; ref != nil {
			s.publishSecret = &v1.SecretReference{Namespace: v.Pod.Namespace, Name: ref.Name}
		}
		return s
	}
	pv := v.Persistent.Spec.CSI
	s.mode = storage.VolumeLifecyclePersistent
	s.volumeKey = volumeKey{pv.Driver, pv.VolumeHandle}
	s.attributes = maps.Clone(pv.VolumeAttributes)
	s.fsType, s.publishSecret, s.stageSecret = pv.FSType, pv.NodePublishSecretRef, pv.NodeStageSecretRef
	s.mountOptions = v.Persistent.Spec.MountOptions
	if s.accessModes = v.Persistent.Spec.AccessModes; len(s.accessModes) > 0 {
		s.accessMode = s.accessModes[0]
	}
	return s
}

// checkMode refuses volumes of a kind that the driver does not have.
func checkMode(s *source, about *storage.CSIDriver) error {
	switch {
	case about == nil && s.mode == storage.VolumeLifecyclePersistent:
		return nil
	case about == nil:
		return fmt.Errorf("volume mode %q not supported by driver %s (no CSIDriver object)", s.mode, s.driver)
	case slices.Contains(about.Spec.VolumeLifecycleModes, s.mode):
		return nil
	}
	return fmt.Errorf("volume mode %q not supported by driver %s (only supports %q)", s.mode, s.driver, about.Spec.VolumeLifecycleModes)
}

// groupPolicy is when the driver's volumes get the pod's group.
func groupPolicy(about *storage.CSIDriver) (storage.FSGroupPolicy, error) {
	switch {
	case about == nil:
		return storage.ReadWriteOnceWithFSTypeFSGroupPolicy, nil
	case about.Spec.FSGroupPolicy == nil || *about.Spec.FSGroupPolicy == "":
		return "", fmt.Errorf("%s: expected valid fsGroupPolicy, received nil value or empty string", plugin)
	}
	return *about.Spec.FSGroupPolicy, nil
}

// needsGroup reports whether the agent is to give the volume to the pod's group.
func (s *source) needsGroup(policy storage.FSGroupPolicy) bool {
	switch {
	case s.fsGroup == nil || s.readOnly || policy == storage.NoneFSGroupPolicy:
		return false
	case policy == storage.FileFSGroupPolicy:
		return true
	case s.fsType == "":
		return false
	}
	return s.mode == storage.VolumeLifecycleEphemeral ||
		slices.Contains(s.accessModes, v1.ReadWriteOnce) || slices.Contains(s.accessModes, v1.ReadWriteOncePod)
}

// onePod reports whether a single pod may have the volume.
func (s *source) onePod() bool {
	return len(s.accessModes) == 1 && s.accessModes[0] == v1.ReadWriteOncePod
}

// addPod adds what the driver wants to know of the pod: to the attributes, and
// tokens to the secrets if it wants them there.
func (s *source) addPod(v *pod.CSIVolume, about *storage.CSIDriver, secrets map[string]string) error {
	if about == nil {
		return nil
	}
	if s.attributes == nil {
		s.attributes = map[string]string{}
	}
	if isTrue(about.Spec.PodInfoOnMount) {
		maps.Copy(s.attributes, map[string]string{
			"csi.storage.k8s.io/pod.name":            v.Pod.Name,
			"csi.storage.k8s.io/pod.namespace":       v.Pod.Namespace,
			"csi.storage.k8s.io/pod.uid":             string(v.Pod.UID),
			"csi.storage.k8s.io/serviceAccount.name": v.Pod.Spec.ServiceAccountName,
			"csi.storage.k8s.io/ephemeral":           strconv.FormatBool(s.mode == storage.VolumeLifecycleEphemeral),
		})
	}
	if len(about.Spec.TokenRequests) == 0 {
		return nil
	}
	tokens := map[string]authentication.TokenRequestStatus{}
	for _, r := range about.Spec.TokenRequests {
		token, err := v.Token(r.Audience, r.ExpirationSeconds)
		if err != nil {
			return fmt.Errorf("%s: mounter.SetUpAt failed to get service accoount token attributes: %w", plugin, err)
		}
		tokens[r.Audience] = token
	}
	value, err := json.Marshal(tokens)
	if err != nil {
		return err
	}
	to := s.attributes
	if isTrue(about.Spec.ServiceAccountTokenInSecrets) {
		to = secrets
	}
	to["csi.storage.k8s.io/serviceAccount.tokens"] = string(value)
	return nil
}

// secret is what a secret holds that goes with a call; field names the reference
// to it.
func (m *Manager) secret(ctx context.Context, ref *v1.SecretReference, field string) (map[string]string, error) {
	values := map[string]string{}
	if ref == nil {
		return values, nil
	}
	s, err := m.API.StorageSecret(ctx, ref.Namespace, ref.Name)
	if err != nil {
		return nil, fmt.Errorf("fetching %s %s/%s failed: %s: failed to find the secret %s in the namespace %s with error: %w",
			field, ref.Namespace, ref.Name, plugin, ref.Name, ref.Namespace, err)
	}
	for key, value := range s.Data {
		values[key] = string(value)
	}
	return values, nil
}

func isTrue(b *bool) bool { return b != nil && *b }

var errOnePod = errors.New("volume uses the ReadWriteOncePod access mode and is already in use by another pod")
