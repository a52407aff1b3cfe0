package kubeapi

import (
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"nodelet/agent/pod"
)

// Recorder writes Kubernetes events: repeated ones are counted, and one object
// cannot flood the API server, as with the kubelet. Its methods do not wait.
type Recorder struct {
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
	node        *v1.ObjectReference
}

// NewRecorder returns a Recorder of events of one node. They are lost when it
// is shut down before they were written, and those of a nil Client go nowhere.
func (c *Client) NewRecorder(nodeName string) *Recorder {
	b := record.NewBroadcaster()
	if c != nil {
		b.StartRecordingToSink(&corev1.EventSinkImpl{Interface: c.events.Events(metav1.NamespaceAll)})
	}
	return &Recorder{
		broadcaster: b,
		recorder:    b.NewRecorder(scheme.Scheme, v1.EventSource{Component: "kubelet", Host: nodeName}),
		// Events may come before the Node exists. Its name in place of its UID is
		// what kubelets long wrote and what kubectl describe looks for as well.
		node: &v1.ObjectReference{Kind: "Node", Name: nodeName, UID: types.UID(nodeName)},
	}
}

// PodEvent records an event of a pod or of one of its containers.
func (r *Recorder) PodEvent(e pod.Event) {
	r.recorder.Event(&v1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: e.Pod.Namespace, Name: e.Pod.Name, UID: e.Pod.UID,
		ResourceVersion: e.Pod.ResourceVersion, FieldPath: e.FieldPath(),
	}, e.Type, e.Reason, e.Message)
}

// NodeEvent records an event of the node.
func (r *Recorder) NodeEvent(eventType, reason, message string) {
	r.recorder.Event(r.node, eventType, reason, message)
}

// Shutdown ends the writing of events.
func (r *Recorder) Shutdown() { r.broadcaster.Shutdown() }
