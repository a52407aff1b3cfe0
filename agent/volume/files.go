package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"nodelet/agent/podenv"
)

// known is what a pod's volumes need not ask for again. The zero value is ready. The
// volumes may be set up beside each other.
type known struct {
	// renewing is held while a token is asked for, so that volumes that want the
	// same one share it.
	renewing sync.Mutex
	tokens   tokens

	mu sync.Mutex
	// configMaps and secrets are the immutable ones, by name. They are the
	// objects that Objects has, so they cost nothing while it keeps them.
	configMaps map[string]*v1.ConfigMap
	secrets    map[string]*v1.Secret
	// claims are the persistent volumes, by the volumes' names in the pod.
	claims map[string]*v1.PersistentVolume
}

func (k *known) configMap(name string) (o *v1.ConfigMap, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o, ok = k.configMaps[name]
	return o, ok
}

func (k *known) keepConfigMap(name string, o *v1.ConfigMap) {
	k.mu.Lock()
	defer k.mu.Unlock()
	put(&k.configMaps, name, o)
}

func (k *known) secret(name string) (o *v1.Secret, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o, ok = k.secrets[name]
	return o, ok
}

func (k *known) keepSecret(name string, o *v1.Secret) {
	k.mu.Lock()
	defer k.mu.Unlock()
	put(&k.secrets, name, o)
}

// claim is the persistent volume of a volume, nil if it has none or it is not known
// yet.
func (k *known) claim(volume string) *v1.PersistentVolume {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.claims[volume]
}

func (k *known) keepClaim(volume string, pv *v1.PersistentVolume) {
	k.mu.Lock()
	defer k.mu.Unlock()
	put(&k.claims, volume, pv)
}

// forget empties it, when nothing is being set up any more.
func (k *known) forget() {
	k.renewing.Lock()
	k.tokens = nil
	k.renewing.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.configMaps, k.secrets, k.claims = nil, nil, nil
}

// builder puts together one volume's files.
type builder struct {
	*Manager
	ctx   context.Context
	entry *entry
	pod   *v1.Pod

	mode  int32
	files map[string]File
}

// files are what belongs in a volume of a kind with files.
func (m *Manager) files(ctx context.Context, e *entry, p *v1.Pod, spec *v1.Volume) (map[string]File, error) {
	b := &builder{Manager: m, ctx: ctx, entry: e, pod: p, files: map[string]File{}}
	var err error
	switch s := &spec.VolumeSource; {
	case s.ConfigMap != nil:
		b.setMode(s.ConfigMap.DefaultMode, v1.ConfigMapVolumeSourceDefaultMode)
		err = b.configMap(s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional)
	case s.Secret != nil:
		b.setMode(s.Secret.DefaultMode, v1.SecretVolumeSourceDefaultMode)
		err = b.secret(s.Secret.SecretName, s.Secret.Items, s.Secret.Optional)
	case s.DownwardAPI != nil:
		b.setMode(s.DownwardAPI.DefaultMode, v1.DownwardAPIVolumeSourceDefaultMode)
		err = b.downwardAPI(s.DownwardAPI.Items)
	case s.Projected != nil:
		b.setMode(s.Projected.DefaultMode, v1.ProjectedVolumeSourceDefaultMode)
		var errs []error
		for i := range s.Projected.Sources {
			errs = append(errs, b.source(&s.Projected.Sources[i]))
		}
		err = utilerrors.NewAggregate(errs)
	}
	return b.files, err
}

func (b *builder) setMode(mode *int32, otherwise int32) {
	if b.mode = otherwise; mode != nil {
		b.mode = *mode
	}
}

// source adds one source of a projected volume. Later sources win.
func (b *builder) source(s *v1.VolumeProjection) error {
	switch {
	case s.ConfigMap != nil:
		return b.configMap(s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional)
	case s.Secret != nil:
		return b.secret(s.Secret.Name, s.Secret.Items, s.Secret.Optional)
	case s.DownwardAPI != nil:
		return b.downwardAPI(s.DownwardAPI.Items)
	case s.ServiceAccountToken != nil:
		return b.token(s.ServiceAccountToken)
	case s.ClusterTrustBundle != nil:
		return b.trustBundle(s.ClusterTrustBundle)
	case s.PodCertificate != nil:
		return errors.New("unsupported source of a projected volume: podCertificate")
	}
	return nil
}

func (b *builder) add(path string, data []byte, mode *int32) error {
	clean, err := cleanPath(path)
	if err != nil {
		return err
	}
	f := File{Data: data, Mode: b.mode}
	if mode != nil {
		f.Mode = *mode
	}
	b.files[clean] = f
	return nil
}

// keys adds an object's keys, all or those that items name.
func (b *builder) keys(keys map[string][]byte, items []v1.KeyToPath, optional *bool, missing string) error {
	if len(items) == 0 {
		for key, data := range keys {
			if err := b.add(key, data, nil); err != nil {
				return err
			}
		}
		return nil
	}
	for _, item := range items {
		data, ok := keys[item.Key]
		switch {
		case !ok && isTrue(optional):
		case !ok:
			return fmt.Errorf("%s: %s", missing, item.Key)
		default:
			if err := b.add(item.Path, data, item.Mode); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *builder) configMap(name string, items []v1.KeyToPath, optional *bool) error {
	object, ok := b.entry.known.configMap(name)
	if !ok {
		var err error
		object, err = b.Objects.ConfigMap(b.ctx, b.pod.Namespace, name)
		switch {
		case apierrors.IsNotFound(err) && isTrue(optional):
			return nil
		case apierrors.IsNotFound(err):
			return fmt.Errorf("configmap %q not found", name)
		case err != nil:
			return err
		}
		if isTrue(object.Immutable) {
			b.entry.known.keepConfigMap(name, object)
		}
	}
	keys := make(map[string][]byte, len(object.Data)+len(object.BinaryData))
	for key, value := range object.Data {
		keys[key] = []byte(value)
	}
	maps.Copy(keys, object.BinaryData)
	return b.keys(keys, items, optional, "configmap references non-existent config key")
}

func (b *builder) secret(name string, items []v1.KeyToPath, optional *bool) error {
	object, ok := b.entry.known.secret(name)
	if !ok {
		var err error
		object, err = b.Objects.Secret(b.ctx, b.pod.Namespace, name)
		switch {
		case apierrors.IsNotFound(err) && isTrue(optional):
			return nil
		case apierrors.IsNotFound(err):
			return fmt.Errorf("secret %q not found", name)
		case err != nil:
			return err
		}
		if isTrue(object.Immutable) {
			b.entry.known.keepSecret(name, object)
		}
	}
	return b.keys(object.Data, items, optional, "references non-existent secret key")
}

func (b *builder) downwardAPI(items []v1.DownwardAPIVolumeFile) error {
	var errs []error
	for i := range items {
		item := &items[i]
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = podenv.Field(b.pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = podenv.ResourceFieldOf(item.ResourceFieldRef, b.pod, b.Node().Status.Allocatable)
		}
		if err == nil {
			err = b.add(item.Path, []byte(value), item.Mode)
		}
		errs = append(errs, err)
	}
	return utilerrors.NewAggregate(errs)
}

func isTrue(b *bool) bool { return b != nil && *b }

// put stores in a map that is made when it is needed.
func put[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[key] = value
}
