package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const workloads = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: green}
---
apiVersion: v1
kind: Secret
metadata: {name: password}
stringData: {word: swordfish}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: e2e.test/app:1
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: each}
spec:
  selector: {matchLabels: {app: each}}
  template:
    metadata: {labels: {app: each}}
    spec:
      containers: [{name: each, image: "e2e.test/app:1"}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: store}
spec:
  serviceName: store
  replicas: 2
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec:
      containers:
      - name: store
        image: e2e.test/app:1
        command: [/test, print]
        args: ["$(COLOR) $(WORD) $(NAME)"]
        env:
        - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
        - {name: WORD, valueFrom: {secretKeyRef: {name: password, key: word}}}
        - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  completions: 2
  parallelism: 2
  template: {spec: {restartPolicy: Never, containers: [{name: once, image: "e2e.test/app:1", args: [exit, "0", "0.5"]}]}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: often}
spec:
  schedule: "* * * * *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: OnFailure, containers: [{name: often, image: "e2e.test/app:1", args: [exit, "0"]}]}}}}
`

// The controllers' pods run as real containers that reach each other.
func TestWorkloads(t *testing.T) {
	c := start(t)
	ns := c.namespace(t, "workloads")
	c.apply(t, ns, workloads)
	web := c.ready(t, ns, "app=web", 3)
	c.ready(t, ns, "app=each", 1)
	store := c.ready(t, ns, "app=store", 2)
	c.kubectl(t, "", "wait", "-n", ns, "--for=condition=complete", "--timeout=60s", "job/once")
	c.kubectl(t, "", "create", "job", "-n", ns, "--from=cronjob/often", "now")
	c.kubectl(t, "", "wait", "-n", ns, "--for=condition=complete", "--timeout=60s", "job/now")

	var ips []string
	for i := range web {
		ips = append(ips, web[i].Status.PodIP)
		answer := get(t, "http://"+web[i].Status.PodIP+":8080/hello")
		if want := web[i].Name + " /hello\n"; answer != want {
			t.Errorf("pod %s at %s answers %q, want %q", web[i].Name, web[i].Status.PodIP, answer, want)
		}
	}
	if slices.Sort(ips); len(slices.Compact(ips)) != 3 {
		t.Errorf("pod IPs %v", ips)
	}
	// From pod to pod.
	client := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"client"},"spec":{"restartPolicy":"Never",
		"containers":[{"name":"client","image":%q,"args":["get","http://%s:8080/there"],"terminationMessagePolicy":"FallbackToLogsOnError"}]}}`,
		testImage, web[0].Status.PodIP)
	c.apply(t, ns, client)
	c.eventually(t, "one pod has reached another", time.Minute, func(ctx context.Context) error {
		p, err := c.kube.CoreV1().Pods(ns).Get(ctx, "client", metav1.GetOptions{})
		if err == nil && p.Status.Phase != v1.PodSucceeded {
			err = fmt.Errorf("%s", describe([]v1.Pod{*p}))
		}
		return err
	})
	for i := range store {
		id := strings.TrimPrefix(store[i].Status.ContainerStatuses[0].ContainerID, "docker://")
		if got, want := c.log(t, id), "green swordfish "+store[i].Name+"\n"; got != want {
			t.Errorf("%s was told %q, want %q", store[i].Name, got, want)
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// A changed image replaces that one container; a deleted pod leaves nothing.
func TestChangeAndDelete(t *testing.T) {
	c := start(t)
	c.engine.Load(t, "e2e.test/app:2")
	ns := c.namespace(t, "change")
	c.apply(t, ns, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"app":"p"}},"spec":{"terminationGracePeriodSeconds":5,
		"containers":[{"name":"a","image":"e2e.test/app:1"},{"name":"b","image":"e2e.test/app:1","args":["stubborn"]}]}}`)
	before := c.ready(t, ns, "app=p", 1)[0]
	c.kubectl(t, "", "set", "image", "-n", ns, "pod/p", "a=e2e.test/app:2")
	var after v1.Pod
	c.eventually(t, "container a runs the other image", time.Minute, func(ctx context.Context) error {
		p, err := c.kube.CoreV1().Pods(ns).Get(ctx, "p", metav1.GetOptions{})
		if err != nil {
			return err
		}
		after = *p
		if s := container(p, "a"); s.RestartCount != 1 || s.State.Running == nil || s.Image != "e2e.test/app:2" {
			return fmt.Errorf("%s", describe([]v1.Pod{*p}))
		}
		return nil
	})
	if container(&before, "b").ContainerID != container(&after, "b").ContainerID || container(&after, "b").RestartCount != 0 {
		t.Errorf("container b was replaced too: %s", describe([]v1.Pod{after}))
	}
	began := time.Now()
	c.kubectl(t, "", "delete", "pod", "-n", ns, "p")
	if left := c.containers(t, string(after.UID)); len(left) > 0 {
		t.Errorf("the deleted pod left %v", left)
	}
	// Container b ignores SIGTERM, so the whole grace period is given.
	if took := time.Since(began); took < 4*time.Second || took > 20*time.Second {
		t.Errorf("the deletion took %v, want about the 5 s of grace", took)
	}
}

func container(p *v1.Pod, name string) v1.ContainerStatus {
	for _, s := range p.Status.ContainerStatuses {
		if s.Name == name {
			return s
		}
	}
	return v1.ContainerStatus{}
}
