package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

// parse makes options of the defaults, the configuration file and the command
// line, of which the last has the last word. warnings tell what of the file is
// not heeded; err names every fault.
func parse(args []string) (o options, warnings []string, err error) {
	o = defaultOptions()
	err = parseFlags(&o, args)
	if err != nil || o.version || o.config == "" {
		return o, nil, err
	}
	text, err := readConfig(o.config)
	if err != nil {
		return o, nil, fmt.Errorf("--config: %w", err)
	}
	if text == nil {
		if o.agent.StaticPodPath != "" && o.agent.StaticPodPath != o.config {
			return o, nil, fmt.Errorf("--pod-manifest-path: %q: must not differ from --config %s, which holds static pods too",
				o.agent.StaticPodPath, o.config)
		}
		o.agent.StaticPodPath = o.config
		return o, nil, nil
	}
	file, err := decodeConfig(text)
	if err != nil {
		return o, nil, fmt.Errorf("--config %s: %w", o.config, err)
	}
	dir := filepath.Dir(o.config)
	o = defaultOptions()
	warnings = applyConfig(&o, file)
	// Paths in the file are from where it is, those of flags from where we are.
	for _, path := range []*string{&o.agent.StaticPodPath, &o.agent.ResolvConf} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	return o, warnings, parseFlags(&o, args)
}

// readConfig returns the text of a KubeletConfiguration, or nil where the path
// has a folder or anything else, which are static pods.
func readConfig(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; a folder of static pods that is yet to come can be given as --pod-manifest-path", err)
	}
	if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil || !isConfig(text) {
		return nil, err
	}
	return text, nil
}

// isConfig reports whether a text is of the kubelet's configuration API, be it
// in a version or of a kind that is not known here.
func isConfig(text []byte) bool {
	var head metav1.TypeMeta
	if yaml.Unmarshal(text, &head) != nil {
		// What cannot be read has its faults told best by who would read it.
		return bytes.Contains(text, []byte(kubeletconfig.GroupName))
	}
	return schema.FromAPIVersionAndKind(head.APIVersion, head.Kind).Group == kubeletconfig.GroupName
}

// configCodec decodes strictly: unknown and repeated fields are errors.
var configCodec = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	utilruntime.Must(kubeletconfig.AddToScheme(scheme))
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}()

// decodeConfig reads a KubeletConfiguration in YAML or JSON. An error names
// every unknown or repeated field.
func decodeConfig(text []byte) (*kubeletconfig.KubeletConfiguration, error) {
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	first, err := documents.Read()
	if err != nil && err != io.EOF {
		return nil, err
	}
	for {
		more, err := documents.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(more)) > 0 {
			return nil, errors.New("must be one document, and nothing after it")
		}
	}
	object, kind, err := configCodec.Decode(first, nil, nil)
	if err != nil {
		return nil, err
	}
	config, ok := object.(*kubeletconfig.KubeletConfiguration)
	if !ok {
		return nil, fmt.Errorf("kind: %q: must be KubeletConfiguration", kind.Kind)
	}
	return config, nil
}
