package podenv

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"nodelet/agent/podruntime"
)

// containerOf reads a container from YAML.
func containerOf(t *testing.T, text string) *v1.Container {
	t.Helper()
	c := &v1.Container{}
	if err := yaml.UnmarshalStrict([]byte(text), c); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return c
}

func podOf(t *testing.T, text string) *v1.Pod {
	t.Helper()
	p := &v1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(text), p); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return p
}

func lookup[T any](kind string, objects map[string]*T) func(string) (*T, error) {
	return func(name string) (*T, error) {
		if name == "broken" {
			return nil, errors.New("failed to sync " + kind + " cache: away")
		}
		if o, ok := objects[name]; ok {
			return o, nil
		}
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: kind}, name)
	}
}

// inputOf is a container of a pod with what is around it.
func inputOf(t *testing.T, container string) Input {
	p := podOf(t, `
metadata: {name: p, namespace: ns, uid: u-1, labels: {app: web, "a/b": "q\"\n"}, annotations: {Note: n, "Example.com/Big": b}}
spec: {nodeName: node-1, serviceAccountName: sa, enableServiceLinks: false}
`)
	c := containerOf(t, container)
	p.Spec.Containers = []v1.Container{*c, {Name: "other", Resources: v1.ResourceRequirements{
		Limits:   v1.ResourceList{v1.ResourceCPU: resource.MustParse("1500m")},
		Requests: v1.ResourceList{v1.ResourceMemory: resource.MustParse("100Mi")}}}}
	p.Spec.InitContainers = []v1.Container{{Name: "init"}}
	return Input{
		Pod: p, Container: c, PodIPs: []string{"10.1.0.5"}, HostIPs: []string{"192.168.0.1"}, NodeName: "node-1",
		Allocatable: v1.ResourceList{v1.ResourceCPU: resource.MustParse("4"), v1.ResourceMemory: resource.MustParse("8Gi"),
			v1.ResourceEphemeralStorage: resource.MustParse("100Gi")},
		ConfigMap: lookup("configmap", map[string]*v1.ConfigMap{
			"cm": {Data: map[string]string{"b": "2", "a": "1", "1bad.name": "odd", "ref": "$(a)"}, BinaryData: map[string][]byte{"bin": {1}}}}),
		Secret: lookup("secret", map[string]*v1.Secret{"s": {Data: map[string][]byte{"a": []byte("secret"), "z": nil}}}),
	}
}

func show(env []podruntime.EnvVar) string {
	var all []string
	for _, e := range env {
		all = append(all, e.Name+"="+e.Value)
	}
	return strings.Join(all, " ")
}

var resolveTests = map[string]struct{ container, want, err string }{
	"nothing": {"{}", "", ""},
	"plain, in order": {`
env: [{name: Z, value: "1"}, {name: A, value: ""}, {name: M}]`, "Z=1 A= M=", ""},
	"references go back only": {`
env: [{name: A, value: "$(B)"}, {name: B, value: "1"}, {name: C, value: "$(A)$(B)$$(B)$(NONE)"}]`, "A=$(B) B=1 C=$(B)1$(B)$(NONE)", ""},
	"the last one of a name counts": {`
env: [{name: A, value: "1"}, {name: B, value: "$(A)"}, {name: A, value: "2"}, {name: C, value: "$(A)"}]`, "A=2 B=1 C=2", ""},
	"a variable may refer to what it was": {`
env: [{name: A, value: "1"}, {name: A, value: "$(A)$(A)"}]`, "A=11", ""},
	"a value wins over its source": {`
env: [{name: A, value: x, valueFrom: {configMapKeyRef: {name: none, key: k}}}]`, "A=x", ""},
	"config map and secret": {`
envFrom: [{configMapRef: {name: cm}}, {secretRef: {name: s}}]`, "1bad.name=odd a=secret b=2 ref=$(a) z=", ""},
	"with prefixes": {`
envFrom: [{prefix: P_, configMapRef: {name: cm}}, {prefix: "9-", secretRef: {name: s}}]`,
		"P_1bad.name=odd P_a=1 P_b=2 P_ref=$(a) 9-a=secret 9-z=", ""},
	"env wins over envFrom and sees it": {`
envFrom: [{secretRef: {name: s}}]
env: [{name: B, value: "$(a)!"}, {name: a, value: own}]`, "a=own z= B=secret!", ""},
	"what a config map refers to is not expanded": {`
envFrom: [{configMapRef: {name: cm}}]
env: [{name: R, value: "$(ref)"}]`, "1bad.name=odd a=1 b=2 ref=$(a) R=$(a)", ""},
	"neither source": {`
envFrom: [{prefix: P}]
env: [{name: A, valueFrom: {}}]`, "A=", ""},
	"keys": {`
env:
- {name: A, valueFrom: {configMapKeyRef: {name: cm, key: a}}}
- {name: B, valueFrom: {secretKeyRef: {name: s, key: a}}}
- {name: C, valueFrom: {secretKeyRef: {name: s, key: z}}}
- {name: D, valueFrom: {configMapKeyRef: {name: cm, key: ref}}}
- {name: E, value: "$(B)"}`, "A=1 B=secret C= D=$(a) E=secret", ""},

	// What is missing.
	"no config map":        {`envFrom: [{configMapRef: {name: x}}]`, "", `configmap "x" not found`},
	"no secret":            {`envFrom: [{secretRef: {name: x}}]`, "", `secret "x" not found`},
	"no config map to key": {`env: [{name: A, valueFrom: {configMapKeyRef: {name: x, key: k}}}]`, "", `configmap "x" not found`},
	"no secret to key":     {`env: [{name: A, valueFrom: {secretKeyRef: {name: x, key: k}}}]`, "", `secret "x" not found`},
	"no key in config map": {`env: [{name: A, valueFrom: {configMapKeyRef: {name: cm, key: k}}}]`, "", `couldn't find key k in ConfigMap ns/cm`},
	"binary key":           {`env: [{name: A, valueFrom: {configMapKeyRef: {name: cm, key: bin}}}]`, "", `couldn't find key bin in ConfigMap ns/cm`},
	"no key in secret":     {`env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]`, "", `couldn't find key k in Secret ns/s`},
	"not optional":         {`envFrom: [{secretRef: {name: x, optional: false}}]`, "", `secret "x" not found`},
	"all optional": {`
envFrom: [{configMapRef: {name: x, optional: true}}, {secretRef: {name: x, optional: true}}]
env:
- {name: A, value: before}
- {name: A, valueFrom: {configMapKeyRef: {name: x, key: k, optional: true}}}
- {name: B, valueFrom: {configMapKeyRef: {name: cm, key: k, optional: true}}}
- {name: C, valueFrom: {secretKeyRef: {name: x, key: k, optional: true}}}
- {name: D, valueFrom: {secretKeyRef: {name: s, key: k, optional: true}}}
- {name: E, valueFrom: {secretKeyRef: {name: s, key: a, optional: true}}}`, "A=before E=secret", ""},
	"optional does not hide a failure": {`
envFrom: [{configMapRef: {name: broken, optional: true}}]`, "", "failed to sync configmap cache: away"},
	"optional key does not hide a failure": {`
env: [{name: A, valueFrom: {secretKeyRef: {name: broken, key: k, optional: true}}}]`, "", "failed to sync secret cache: away"},
	"file": {`
env: [{name: A, valueFrom: {fileKeyRef: {volumeName: v, path: p, key: k}}}]`, "", "environment variable A: fileKeyRef is not supported"},

	// Fields.
	"fields": {`
env:
- {name: A, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}}
- {name: B, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: C, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
- {name: D, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: E, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
- {name: F, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
- {name: G, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: H, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}
- {name: I, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['Example.com/Big']"}}}
- {name: J, valueFrom: {fieldRef: {fieldPath: "metadata.labels['none']"}}}
- {name: K, value: "$(G)"}`, "A=p B=ns C=u-1 D=node-1 E=sa F=192.168.0.1 G=10.1.0.5 H=web I=b J= K=10.1.0.5", ""},
	"field with several lines": {`
env: [{name: L, valueFrom: {fieldRef: {fieldPath: metadata.labels}}}]`, "L=a/b=\"q\\\"\\n\"\napp=\"web\"", ""},
	"unknown field":      {`env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.hostname}}}]`, "", "field label not supported: spec.hostname"},
	"field of selectors": {`env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.phase}}}]`, "", "unsupported fieldPath: status.phase"},
	"field with subscript": {`env: [{name: A, valueFrom: {fieldRef: {fieldPath: "metadata.name['x']"}}}]`, "",
		"field label does not support subscript: metadata.name['x']"},
	"field with a bad subscript": {`env: [{name: A, valueFrom: {fieldRef: {fieldPath: "metadata.labels['-']"}}}]`, "",
		"invalid key subscript in metadata.labels['-']: "},
	"field of another version": {`env: [{name: A, valueFrom: {fieldRef: {apiVersion: v2, fieldPath: metadata.name}}}]`, "", "unsupported pod version: v2"},

	// Resources.
	"own resources": {`
resources: {limits: {cpu: 2500m, memory: 100Mi, hugepages-2Mi: 4Mi, ephemeral-storage: 1Gi}, requests: {cpu: 100m, memory: 50M, ephemeral-storage: 1k}}
env:
- {name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
- {name: B, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
- {name: C, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
- {name: D, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
- {name: E, valueFrom: {resourceFieldRef: {resource: requests.cpu}}}
- {name: F, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}
- {name: G, valueFrom: {resourceFieldRef: {resource: limits.hugepages-2Mi, divisor: 1Mi}}}
- {name: H, valueFrom: {resourceFieldRef: {resource: requests.ephemeral-storage, divisor: "0"}}}
- {name: I, valueFrom: {resourceFieldRef: {resource: limits.ephemeral-storage, divisor: 1Mi}}}`,
		"A=3 B=2500 C=100 D=104857600 E=1 F=48 G=4 H=1000 I=1024", ""},
	"limits that are not set are the node's, requests are 0": {`
env:
- {name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
- {name: B, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Gi}}}
- {name: C, valueFrom: {resourceFieldRef: {resource: limits.ephemeral-storage, divisor: 1Gi}}}
- {name: D, valueFrom: {resourceFieldRef: {resource: requests.cpu}}}
- {name: E, valueFrom: {resourceFieldRef: {resource: limits.hugepages-2Mi}}}`, "A=4 B=8 C=100 D=0 E=0", ""},
	"another container's": {`
name: c
env:
- {name: A, valueFrom: {resourceFieldRef: {containerName: other, resource: limits.cpu, divisor: 1m}}}
- {name: B, valueFrom: {resourceFieldRef: {containerName: other, resource: requests.memory, divisor: 1Mi}}}
- {name: C, valueFrom: {resourceFieldRef: {containerName: other, resource: limits.memory, divisor: 1Gi}}}
- {name: D, valueFrom: {resourceFieldRef: {containerName: init, resource: limits.cpu}}}`, "A=1500 B=100 C=8 D=0", ""},
	"no container": {`env: [{name: A, valueFrom: {resourceFieldRef: {containerName: x, resource: limits.cpu}}}]`, "", "container x not found"},
	"no resource":  {`env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.pods}}}]`, "", "unsupported container resource : limits.pods"},
	"no kind":      {`env: [{name: A, valueFrom: {resourceFieldRef: {resource: cpu}}}]`, "", "unsupported container resource : cpu"},
}

func TestResolve(t *testing.T) {
	for name, test := range resolveTests {
		t.Run(name, func(t *testing.T) {
			in := inputOf(t, test.container)
			before := in.Pod.DeepCopy()
			env, err := Resolve(in)
			if got := fmt.Sprint(err); test.err == "" && err != nil || test.err != "" && !strings.HasPrefix(got, test.err) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if err != nil && env != nil {
				t.Error("an environment with an error")
			}
			if got := show(env); got != test.want {
				t.Errorf("environment\n%s\nwant\n%s", got, test.want)
			}
			if !equal(in.Pod, before) {
				t.Error("the pod was changed")
			}
			for range 10 {
				if again, _ := Resolve(in); !slices.Equal(env, again) {
					t.Fatalf("%v the next time", show(again))
				}
			}
		})
	}
}

func equal(a, b *v1.Pod) bool {
	x, _ := yaml.Marshal(a)
	y, _ := yaml.Marshal(b)
	return string(x) == string(y)
}

func TestAddressFields(t *testing.T) {
	const env = `
env:
- {name: A, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: B, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
- {name: C, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
- {name: D, valueFrom: {fieldRef: {fieldPath: status.hostIPs}}}`
	for name, test := range map[string]struct {
		pod, host   []string
		hostNetwork bool
		want        string
	}{
		"one family": {[]string{"10.0.0.1"}, []string{"1.1.1.1"}, false, "A=10.0.0.1 B=10.0.0.1 C=1.1.1.1 D=1.1.1.1"},
		"the node's family first": {[]string{"10.0.0.1", "fd00::1"}, []string{"fe80::1", "1.1.1.1"}, false,
			"A=fd00::1 B=fd00::1,10.0.0.1 C=fe80::1 D=fe80::1,1.1.1.1"},
		"one of each family": {[]string{"fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"}, []string{"1.1.1.1"}, false,
			"A=10.0.0.1 B=10.0.0.1,fd00::1 C=1.1.1.1 D=1.1.1.1"},
		"only the other family":             {[]string{"fd00::1"}, []string{"1.1.1.1"}, false, "A=fd00::1 B=fd00::1 C=1.1.1.1 D=1.1.1.1"},
		"none yet":                          {nil, []string{"1.1.1.1"}, false, "A= B= C=1.1.1.1 D=1.1.1.1"},
		"host network":                      {nil, []string{"1.1.1.1", "fe80::1"}, true, "A=1.1.1.1 B=1.1.1.1,fe80::1 C=1.1.1.1 D=1.1.1.1,fe80::1"},
		"host network with its own address": {[]string{"2.2.2.2"}, []string{"1.1.1.1"}, true, "A=2.2.2.2 B=2.2.2.2 C=1.1.1.1 D=1.1.1.1"},
	} {
		in := inputOf(t, env)
		in.PodIPs, in.HostIPs, in.Pod.Spec.HostNetwork = test.pod, test.host, test.hostNetwork
		got, err := Resolve(in)
		if err != nil || show(got) != test.want {
			t.Errorf("%s: %s (%v), want %s", name, show(got), err, test.want)
		}
	}
	for _, field := range []string{"status.hostIP", "status.hostIPs"} {
		in := inputOf(t, "env: [{name: A, valueFrom: {fieldRef: {fieldPath: "+field+"}}}]")
		in.HostIPs = nil
		if _, err := Resolve(in); err == nil || err.Error() != "host IP unknown" {
			t.Errorf("%s of a node without an address: %v", field, err)
		}
	}
	// A static pod need not say where it is.
	in := inputOf(t, "env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]")
	in.Pod.Spec.NodeName = ""
	if got, err := Resolve(in); err != nil || show(got) != "A=node-1" {
		t.Errorf("node name %v (%v)", show(got), err)
	}
}

// A pod's own limit stands in for that of a container, where there is one.
func TestPodLevelLimits(t *testing.T) {
	in := inputOf(t, `
resources: {limits: {memory: 1Gi}}
env:
- {name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
- {name: B, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Gi}}}
- {name: C, valueFrom: {resourceFieldRef: {resource: limits.ephemeral-storage, divisor: 1Gi}}}
- {name: D, valueFrom: {resourceFieldRef: {containerName: other, resource: limits.memory, divisor: 1Gi}}}
- {name: E, valueFrom: {resourceFieldRef: {containerName: init, resource: limits.memory}}}`)
	in.Pod.Spec.Resources = &v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceCPU: resource.MustParse("2"),
		v1.ResourceMemory: resource.MustParse("2Gi"), v1.ResourceEphemeralStorage: resource.MustParse("1Gi")}}
	if got, err := Resolve(in); err != nil || show(got) != "A=2 B=1 C=100 D=2 E=0" {
		t.Errorf("%s (%v)", show(got), err)
	}
	in.Pod.Spec.Resources.Limits = v1.ResourceList{v1.ResourceCPU: resource.MustParse("0")}
	if got, err := Resolve(in); err != nil || show(got) != "A=4 B=1 C=100 D=8 E=0" {
		t.Errorf("%s (%v)", show(got), err)
	}
}

func TestExpandCommand(t *testing.T) {
	env := []podruntime.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)"}, {Name: "A", Value: "2"}}
	got := Expand([]string{"sh", "-c", "echo $(A) $$(A) $(B) $(C) $A"}, env)
	if want := []string{"sh", "-c", "echo 2 $(A) $(A) $(C) $A"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if Expand(nil, env) != nil || Expand([]string{}, env) == nil {
		t.Error("nil and empty are told apart")
	}
}

func TestExpandSubPath(t *testing.T) {
	env := []podruntime.EnvVar{{Name: "POD", Value: "p"}, {Name: "EMPTY"}}
	for expr, want := range map[string]string{"": "", "logs": "logs", "logs/$(POD)": "logs/p", "$$(POD)": "$(POD)"} {
		if got, err := ExpandSubPath(expr, env); err != nil || got != want {
			t.Errorf("%q became %q (%v)", expr, got, err)
		}
	}
	for expr, want := range map[string]string{"$(EMPTY)": "missing value for EMPTY",
		"$(Z)/$(POD)/$(A)/$(Z)": "missing value for A, Z"} {
		if got, err := ExpandSubPath(expr, env); err == nil || err.Error() != want {
			t.Errorf("%q became %q (%v), want %s", expr, got, err, want)
		}
	}
}

func TestReferences(t *testing.T) {
	p := podOf(t, `
spec:
  imagePullSecrets: [{name: pull}, {name: ""}, {name: pull}]
  initContainers:
  - envFrom: [{configMapRef: {name: init-from}}, {secretRef: {name: init-secret, optional: true}}]
  containers:
  - env:
    - {name: A, value: x}
    - {name: B, valueFrom: {configMapKeyRef: {name: key, key: k, optional: true}}}
    - {name: C, valueFrom: {secretKeyRef: {name: key-secret, key: k}}}
    - {name: D, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - envFrom: [{configMapRef: {name: key}}, {prefix: x}]
  ephemeralContainers:
  - envFrom: [{configMapRef: {name: debug}}]
    env: [{name: A, valueFrom: {secretKeyRef: {name: debug-secret, key: k}}}]
  volumes:
  - {name: a, configMap: {name: volume, optional: true}}
  - {name: b, secret: {secretName: volume-secret}}
  - name: c
    projected:
      sources:
      - {configMap: {name: projected}}
      - {secret: {name: projected-secret, optional: true}}
      - {serviceAccountToken: {path: token}}
      - {downwardAPI: {}}
  - {name: d, emptyDir: {}}
  - {name: e, csi: {driver: x, nodePublishSecretRef: {name: csi}}}
  - {name: f, csi: {driver: x}}
  - {name: g, azureFile: {secretName: azure, shareName: s}}
  - {name: h, cephfs: {secretRef: {name: ceph}, monitors: []}}
  - {name: i, cinder: {secretRef: {name: cinder}, volumeID: x}}
  - {name: j, flexVolume: {secretRef: {name: flex}, driver: x}}
  - {name: k, rbd: {secretRef: {name: rbd}, image: x, monitors: []}}
  - {name: l, scaleIO: {secretRef: {name: scale}, gateway: x, system: x}}
  - {name: m, iscsi: {secretRef: {name: iscsi}, iqn: x, lun: 1, targetPortal: x}}
  - {name: n, storageos: {secretRef: {name: storageos}}}
  - {name: o, iscsi: {iqn: x, lun: 1, targetPortal: x}}
`)
	configMaps, secrets := References(p)
	if want := []string{"debug", "init-from", "key", "projected", "volume"}; !slices.Equal(configMaps, want) {
		t.Errorf("config maps %q, want %q", configMaps, want)
	}
	if want := strings.Fields("azure ceph cinder csi debug-secret flex init-secret iscsi key-secret projected-secret " +
		"pull rbd scale storageos volume-secret"); !slices.Equal(secrets, want) {
		t.Errorf("secrets %q, want %q", secrets, want)
	}
	if configMaps, secrets := References(&v1.Pod{}); configMaps != nil || secrets != nil {
		t.Errorf("%q and %q of an empty pod", configMaps, secrets)
	}
}

func serviceOf(namespace, name, ip string, ports ...v1.ServicePort) *v1.Service {
	return &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1.ServiceSpec{ClusterIP: ip, Ports: ports}}
}

func TestServiceVariables(t *testing.T) {
	https := v1.ServicePort{Name: "https", Port: 443, Protocol: v1.ProtocolTCP}
	services := []*v1.Service{
		serviceOf("ns", "my-db", "10.0.0.9", v1.ServicePort{Port: 5432}),
		serviceOf("ns", "dns", "fd00::a", v1.ServicePort{Name: "dns-udp", Port: 53, Protocol: v1.ProtocolUDP},
			v1.ServicePort{Name: "dns", Port: 53, Protocol: v1.ProtocolTCP}),
		serviceOf("ns", "headless", v1.ClusterIPNone, https),
		serviceOf("ns", "external", "", https),
		serviceOf("other", "hidden", "10.0.0.8", https),
		serviceOf("default", "hidden-too", "10.0.0.7", https),
		serviceOf("default", "kubernetes", "10.0.0.1", https),
	}
	const api = `KUBERNETES_SERVICE_HOST=10.0.0.1 KUBERNETES_SERVICE_PORT=443 KUBERNETES_SERVICE_PORT_HTTPS=443
		KUBERNETES_PORT=tcp://10.0.0.1:443 KUBERNETES_PORT_443_TCP=tcp://10.0.0.1:443 KUBERNETES_PORT_443_TCP_PROTO=tcp
		KUBERNETES_PORT_443_TCP_PORT=443 KUBERNETES_PORT_443_TCP_ADDR=10.0.0.1`
	const dns = `DNS_SERVICE_HOST=fd00::a DNS_SERVICE_PORT=53 DNS_SERVICE_PORT_DNS_UDP=53 DNS_SERVICE_PORT_DNS=53
		DNS_PORT=udp://[fd00::a]:53 DNS_PORT_53_UDP=udp://[fd00::a]:53 DNS_PORT_53_UDP_PROTO=udp DNS_PORT_53_UDP_PORT=53
		DNS_PORT_53_UDP_ADDR=fd00::a DNS_PORT_53_TCP=tcp://[fd00::a]:53 DNS_PORT_53_TCP_PROTO=tcp DNS_PORT_53_TCP_PORT=53
		DNS_PORT_53_TCP_ADDR=fd00::a`
	const db = `MY_DB_SERVICE_HOST=10.0.0.9 MY_DB_SERVICE_PORT=5432 MY_DB_PORT=tcp://10.0.0.9:5432
		MY_DB_PORT_5432_TCP=tcp://10.0.0.9:5432 MY_DB_PORT_5432_TCP_PROTO=tcp MY_DB_PORT_5432_TCP_PORT=5432
		MY_DB_PORT_5432_TCP_ADDR=10.0.0.9`
	yes, no := true, false
	own := serviceOf("ns", "kubernetes", "10.9.9.9")
	for name, test := range map[string]struct {
		namespace string
		links     *bool
		more      *v1.Service
		want      string
	}{
		"with links":                 {"ns", &yes, nil, dns + " " + api + " " + db},
		"by default":                 {"ns", nil, nil, dns + " " + api + " " + db},
		"without links":              {"ns", &no, nil, api},
		"of a namespace without any": {"empty", &yes, nil, api},
		"a service of its own that is called kubernetes": {"ns", &yes, own, dns + " KUBERNETES_SERVICE_HOST=10.9.9.9 " + db},
		"the same without links":                         {"ns", &no, own, api},
		"of the API server's namespace":                  {"default", &no, nil, api},
	} {
		in := inputOf(t, "{}")
		in.Pod.Namespace, in.Pod.Spec.EnableServiceLinks = test.namespace, test.links
		in.Services = services
		if test.more != nil {
			in.Services = append(slices.Clone(services), test.more)
		}
		for range 2 {
			env, err := Resolve(in)
			if got, want := show(env), strings.Join(strings.Fields(test.want), " "); err != nil || got != want {
				t.Errorf("%s:\n%s (%v), want\n%s", name, got, err, want)
			}
			// Their order has no effect.
			in.Services = slices.Clone(in.Services)
			slices.Reverse(in.Services)
		}
	}

	// They can be referred to, and be replaced.
	in := inputOf(t, `env: [{name: URL, value: "https://$(KUBERNETES_SERVICE_HOST)"}, {name: KUBERNETES_SERVICE_HOST, value: own}]`)
	in.Services = services
	env, err := Resolve(in)
	if got := show(env); err != nil || !strings.HasPrefix(got, "KUBERNETES_SERVICE_HOST=own ") || !strings.HasSuffix(got, " URL=https://10.0.0.1") {
		t.Errorf("%s (%v)", got, err)
	}
}
