package observe

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Events writes Kubernetes Events, as well as it may: one that is refused or
// lost changes nothing (contract, row 56). A nil Events writes none.
type Events struct {
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
	namespace   string
	pod         *corev1.ObjectReference // what transitions are about
}

// Event reasons.
const (
	ReasonTransition = "StateTransition"
	ReasonProblem    = "StateMapProblem"
)

// NewEvents starts to write Events into a namespace. Transitions are about the
// pod if its name is known, else about the global map.
func NewEvents(client kubernetes.Interface, namespace, runner, podName, podUID string) *Events {
	e := &Events{broadcaster: record.NewBroadcaster(), namespace: namespace}
	e.broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events(namespace)})
	scheme := runtime.NewScheme() // only references are passed, so no type is looked up
	e.recorder = e.broadcaster.NewRecorder(scheme, corev1.EventSource{Component: "studio-go-runner", Host: runner})
	e.pod = &corev1.ObjectReference{Kind: "ConfigMap", APIVersion: "v1", Namespace: namespace, Name: api.GlobalMapName}
	if podName != "" {
		e.pod = &corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: namespace, Name: podName}
		e.pod.UID = types.UID(podUID)
	}
	return e
}

// Transition writes a normal Event.
func (e *Events) Transition(text string) {
	if e != nil {
		e.recorder.Event(e.pod, corev1.EventTypeNormal, ReasonTransition, text)
	}
}

// Problem writes a Warning about a map.
func (e *Events) Problem(mapName, text string) {
	if e != nil {
		ref := &corev1.ObjectReference{Kind: "ConfigMap", APIVersion: "v1", Namespace: e.namespace, Name: mapName}
		e.recorder.Event(ref, corev1.EventTypeWarning, ReasonProblem, text)
	}
}

// Close stops writing.
func (e *Events) Close() {
	if e != nil {
		e.broadcaster.Shutdown()
	}
}
