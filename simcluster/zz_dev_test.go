package simcluster

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func cpu() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(0, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func rss() string {
	d, _ := os.ReadFile("/proc/self/status")
	for _, l := range strings.Split(string(d), "\n") {
		if strings.HasPrefix(l, "VmRSS:") {
			return l
		}
	}
	return ""
}

func TestDevNodes(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("NODES"))
	if n == 0 {
		t.Skip()
	}
	ctx := context.Background()
	began, c0 := time.Now(), cpu()
	c, err := Start(ctx, Options{Listen: "127.0.0.1:0", APILoad: APILoad(os.Getenv("LOAD"))})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop(ctx)
	report := func(what string) {
		w, cc := time.Since(began), cpu()-c0
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		fmt.Println(what, w.Round(time.Millisecond), "cpu", cc.Round(time.Millisecond), rss(), "goroutines", runtime.NumGoroutine(), "live heap MB", m.HeapAlloc>>20, "stack MB", m.StackInuse>>20)
		began, c0 = time.Now(), cpu()
	}
	report("start")
	if err := c.AddNodes(ctx, NodeGroup{Name: "n", Count: n}); err != nil {
		t.Fatal(err)
	}
	for {
		l, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			t.Fatal(err)
		}
		ready := 0
		for i := range l.Items {
			if nodeReady(&l.Items[i]) == v1.ConditionTrue {
				ready++
			}
		}
		if ready == n {
			break
		}
		if time.Since(began) > 60*time.Second {
			t.Fatal("ready", ready)
		}
		time.Sleep(100 * time.Millisecond)
	}
	report("ready")
	time.Sleep(12 * time.Second)
	report("12s idle")
	pods := int32(n * 10)
	_, err = c.client.AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{Replicas: &pods, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: v1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
				Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", Image: "nginx"}}}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		d, err := c.client.AppsV1().Deployments("default").Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if d.Status.AvailableReplicas == pods {
			break
		}
		if time.Since(began) > 250*time.Second {
			t.Fatal(d.Status)
		}
		time.Sleep(100 * time.Millisecond)
	}
	report(fmt.Sprint("rolled out ", pods))
	time.Sleep(12 * time.Second)
	report("12s idle")
	time.Sleep(20 * time.Second)
	report("20s idle")
	fmt.Println(c.Violations(), c.Err())
	fmt.Println(c.Stop(ctx))
	report("stop")
}
