package podenv

import (
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
)

// References returns the names of all config maps and secrets, sorted, that the
// pod refers to: in the environment of its containers, init and ephemeral ones
// included, in its volumes, and as image pull secrets. Optional ones, which may
// not exist, are among them. All are in the pod's namespace. They are those that
// the Node authorizer lets the pod's node read.
func References(p *v1.Pod) (configMaps, secrets []string) {
	r := references{map[string]bool{}, map[string]bool{}}
	for _, ref := range p.Spec.ImagePullSecrets {
		r.secrets.add(ref.Name)
	}
	for i := range p.Spec.InitContainers {
		r.container(p.Spec.InitContainers[i].EnvFrom, p.Spec.InitContainers[i].Env)
	}
	for i := range p.Spec.Containers {
		r.container(p.Spec.Containers[i].EnvFrom, p.Spec.Containers[i].Env)
	}
	for i := range p.Spec.EphemeralContainers {
		r.container(p.Spec.EphemeralContainers[i].EnvFrom, p.Spec.EphemeralContainers[i].Env)
	}
	for i := range p.Spec.Volumes {
		r.volume(&p.Spec.Volumes[i].VolumeSource)
	}
	return r.configMaps.sorted(), r.secrets.sorted()
}

type references struct{ configMaps, secrets names }

type names map[string]bool

func (n names) add(name string) {
	if name != "" {
		n[name] = true
	}
}

func (n names) addLocal(ref *v1.LocalObjectReference) {
	if ref != nil {
		n.add(ref.Name)
	}
}

func (n names) sorted() []string { return slices.Sorted(maps.Keys(n)) }

func (r *references) container(from []v1.EnvFromSource, env []v1.EnvVar) {
	for _, f := range from {
		if f.ConfigMapRef != nil {
			r.configMaps.add(f.ConfigMapRef.Name)
		}
		if f.SecretRef != nil {
			r.secrets.add(f.SecretRef.Name)
		}
	}
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if ref := e.ValueFrom.ConfigMapKeyRef; ref != nil {
			r.configMaps.add(ref.Name)
		}
		if ref := e.ValueFrom.SecretKeyRef; ref != nil {
			r.secrets.add(ref.Name)
		}
	}
}

func (r *references) volume(v *v1.VolumeSource) {
	switch {
	case v.ConfigMap != nil:
		r.configMaps.add(v.ConfigMap.Name)
	case v.Secret != nil:
		r.secrets.add(v.Secret.SecretName)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				r.configMaps.add(s.ConfigMap.Name)
			}
			if s.Secret != nil {
				r.secrets.add(s.Secret.Name)
			}
		}
	case v.CSI != nil:
		r.secrets.addLocal(v.CSI.NodePublishSecretRef)
	default:
		r.legacyVolume(v)
	}
}

// legacyVolume is for the drivers that were once part of Kubernetes itself.
func (r *references) legacyVolume(v *v1.VolumeSource) {
	switch {
	case v.AzureFile != nil:
		r.secrets.add(v.AzureFile.SecretName)
	case v.CephFS != nil:
		r.secrets.addLocal(v.CephFS.SecretRef)
	case v.Cinder != nil:
		r.secrets.addLocal(v.Cinder.SecretRef)
	case v.FlexVolume != nil:
		r.secrets.addLocal(v.FlexVolume.SecretRef)
	case v.RBD != nil:
		r.secrets.addLocal(v.RBD.SecretRef)
	case v.ScaleIO != nil:
		r.secrets.addLocal(v.ScaleIO.SecretRef)
	case v.ISCSI != nil:
		r.secrets.addLocal(v.ISCSI.SecretRef)
	case v.StorageOS != nil:
		r.secrets.addLocal(v.StorageOS.SecretRef)
	}
}
