package source

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"nodelet/agent/pod"
)

// maxManifest is the size in bytes above which a manifest is refused.
const maxManifest = 10 << 20

// origin is where a manifest was found, and for which node.
type origin struct {
	source   pod.Source
	nodeName string
	// place is the manifest's path or URL.
	place string
}

// decode returns the pods of a manifest, in YAML or JSON: one v1 Pod, or a v1
// PodList. They are complete: defaulted and validated as the API server would,
// named after the node, and with a UID. The error names the faulty field; one
// faulty pod makes the whole manifest faulty.
func decode(data []byte, o origin) ([]*v1.Pod, error) {
	data, err := toJSON(data)
	if err != nil {
		return nil, err
	}
	var kind metav1.TypeMeta
	if err := json.Unmarshal(data, &kind); err != nil {
		return nil, fmt.Errorf("not an object: %w", err)
	}
	switch {
	case kind.APIVersion == "v1" && kind.Kind == "Pod":
		p := &v1.Pod{}
		if err := decodeStrictly(data, p); err != nil {
			return nil, err
		}
		if err := complete(p, o); err != nil {
			return nil, err
		}
		return []*v1.Pod{p}, nil
	case kind.APIVersion == "v1" && kind.Kind == "PodList":
		return decodeList(data, o)
	}
	return nil, fmt.Errorf("apiVersion %q, kind %q: must be v1 and Pod or PodList", kind.APIVersion, kind.Kind)
}

func decodeList(data []byte, o origin) ([]*v1.Pod, error) {
	var list v1.PodList
	if err := decodeStrictly(data, &list); err != nil {
		return nil, err
	}
	pods := make([]*v1.Pod, len(list.Items))
	seen := map[string]bool{}
	for i := range list.Items {
		p := &list.Items[i]
		if err := complete(p, o); err != nil {
			return nil, fmt.Errorf("items[%d]: %w", i, err)
		}
		for _, key := range []string{pod.FullName(p), string(p.UID)} {
			if seen[key] {
				return nil, fmt.Errorf("items[%d]: pod %s, UID %s: the list has another one of that name or UID", i, pod.FullName(p), p.UID)
			}
			seen[key] = true
		}
		pods[i] = p
	}
	return pods, nil
}

// toJSON returns the manifest's only document as JSON.
func toJSON(data []byte) ([]byte, error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return nil, errors.New("the manifest is empty")
	}
	if data[0] == '{' {
		return data, nil
	}
	var found []byte
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading YAML: %w", err)
		}
		converted, err := yaml.YAMLToJSONStrict(doc)
		if err != nil {
			return nil, fmt.Errorf("reading YAML: %w", err)
		}
		if string(converted) == "null" {
			continue
		}
		// To run the first and say nothing of the others would surprise.
		if found != nil {
			return nil, errors.New("the manifest has several YAML documents; only one is allowed: use a PodList")
		}
		found = converted
	}
	if found == nil {
		return nil, errors.New("the manifest is empty")
	}
	return found, nil
}

// decodeStrictly refuses what would otherwise be dropped in silence.
func decodeStrictly(data []byte, into any) error {
	faults, err := kjson.UnmarshalStrict(data, into)
	if err != nil {
		return fmt.Errorf("decoding: %w", err)
	}
	if len(faults) > 0 {
		return fmt.Errorf("decoding: %w", errors.Join(faults...))
	}
	return nil
}

// complete makes of a pod as it was written the static pod that it stands for.
func complete(p *v1.Pod, o origin) error {
	if p.Name == "" {
		return errors.New("metadata.name: Required value")
	}
	// All else in the metadata is the API server's to set.
	p.ObjectMeta = metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace, UID: p.UID,
		Labels: p.Labels, Annotations: p.Annotations}
	p.TypeMeta = metav1.TypeMeta{}
	p.Status = v1.PodStatus{}
	for _, key := range []string{pod.AnnotationHash, pod.AnnotationSource, pod.AnnotationSeen, pod.AnnotationMirror} {
		delete(p.Annotations, key)
	}
	if p.UID == "" {
		uid, err := hashUID(p, o)
		if err != nil {
			return err
		}
		p.UID = uid
	}
	p.Name += "-" + strings.ToLower(o.nodeName)
	if p.Namespace == "" {
		p.Namespace = metav1.NamespaceDefault
	}
	p.Spec.NodeName = o.nodeName
	tolerateExecution(&p.Spec)
	setDefaults(p)
	if errs := validate(p); len(errs) > 0 {
		return errs.ToAggregate()
	}
	metav1.SetMetaDataAnnotation(&p.ObjectMeta, pod.AnnotationHash, string(p.UID))
	metav1.SetMetaDataAnnotation(&p.ObjectMeta, pod.AnnotationSource, string(o.source))
	metav1.SetMetaDataAnnotation(&p.ObjectMeta, pod.AnnotationSeen, time.Now().Format(time.RFC3339Nano))
	p.Status = v1.PodStatus{Phase: v1.PodPending, QOSClass: qosClass(&p.Spec)}
	return nil
}

// hashUID makes a UID of the pod as it was written and of where. It is made
// before defaulting, so that an agent with other defaults finds its containers
// again.
func hashUID(p *v1.Pod, o origin) (types.UID, error) {
	written, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("encoding pod %s: %w", p.Name, err)
	}
	h := sha256.New()
	for _, part := range []string{o.nodeName, string(o.source), o.place, string(written)} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return types.UID(hex.EncodeToString(h.Sum(nil)[:16])), nil
}

// tolerateExecution keeps the node's troubles from evicting the pod: it would
// only be made again, here.
func tolerateExecution(spec *v1.PodSpec) {
	all := v1.Toleration{Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute}
	for i := range spec.Tolerations {
		if spec.Tolerations[i] == all {
			return
		}
	}
	spec.Tolerations = append(spec.Tolerations, all)
}
