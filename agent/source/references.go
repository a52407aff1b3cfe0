package source

import (
	"reflect"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// references finds what lives in the API server: a static pod must run without
// one, and a mirror pod that had such references would be refused.
func references(s *v1.PodSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	forbid := func(at *field.Path, what string) {
		errs = append(errs, field.Forbidden(at, "static pods may not reference "+what))
	}
	if s.ServiceAccountName != "" {
		forbid(at.Child("serviceAccountName"), "serviceaccounts")
	}
	if len(s.ImagePullSecrets) > 0 {
		forbid(at.Child("imagePullSecrets"), "secrets")
	}
	if len(s.ResourceClaims) > 0 {
		forbid(at.Child("resourceClaims"), "resourceclaims")
	}
	for i := range s.InitContainers {
		containerReferences(&s.InitContainers[i], at.Child("initContainers").Index(i), forbid)
	}
	for i := range s.Containers {
		containerReferences(&s.Containers[i], at.Child("containers").Index(i), forbid)
	}
	for i := range s.Volumes {
		if name, what := volumeReference(&s.Volumes[i]); what != "" {
			forbid(at.Child("volumes").Index(i).Child(name), what)
		}
	}
	return errs
}

func containerReferences(c *v1.Container, at *field.Path, forbid func(*field.Path, string)) {
	for i := range c.EnvFrom {
		at := at.Child("envFrom").Index(i)
		if c.EnvFrom[i].ConfigMapRef != nil {
			forbid(at.Child("configMapRef"), "configmaps")
		}
		if c.EnvFrom[i].SecretRef != nil {
			forbid(at.Child("secretRef"), "secrets")
		}
	}
	for i := range c.Env {
		from, at := c.Env[i].ValueFrom, at.Child("env").Index(i).Child("valueFrom")
		if from == nil {
			continue
		}
		if from.ConfigMapKeyRef != nil {
			forbid(at.Child("configMapKeyRef"), "configmaps")
		}
		if from.SecretKeyRef != nil {
			forbid(at.Child("secretKeyRef"), "secrets")
		}
	}
}

// volumeReference is the field and the kind of API object that a volume needs,
// or "".
func volumeReference(v *v1.Volume) (name, what string) {
	switch {
	case v.ConfigMap != nil:
		return "configMap", "configmaps"
	case v.Secret != nil:
		return "secret", "secrets"
	case v.CSI != nil:
		return "csi", "csidrivers"
	case v.Glusterfs != nil:
		return "glusterfs", "endpoints"
	case v.PersistentVolumeClaim != nil:
		return "persistentVolumeClaim", "persistentvolumeclaims"
	case v.Ephemeral != nil:
		return "ephemeral", "persistentvolumeclaims"
	case v.AzureFile != nil:
		return "azureFile", "secrets"
	case v.Projected != nil:
		return "projected", projectedReference(v.Projected)
	}
	return "", ""
}

func projectedReference(p *v1.ProjectedVolumeSource) string {
	for i := range p.Sources {
		switch s := &p.Sources[i]; {
		case s.ConfigMap != nil:
			return "configmaps"
		case s.Secret != nil:
			return "secrets"
		case s.ServiceAccountToken != nil:
			return "serviceaccounts"
		case s.ClusterTrustBundle != nil:
			return "clustertrustbundles"
		case s.PodCertificate != nil:
			return "podcertificates"
		}
	}
	return ""
}

// sources is how many sources a volume has.
func sources(v *v1.VolumeSource) int {
	n := 0
	value := reflect.ValueOf(v).Elem()
	for i := range value.NumField() {
		if !value.Field(i).IsNil() {
			n++
		}
	}
	return n
}
