package pods

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/studioml/studio-go-runner/e2e/kube"
)

// watch knows the pods of a namespace as they are now.
type watch struct {
	namespace string
	pods      cache.Store
	cancel    context.CancelFunc
	done      sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, at every change
}

// newWatch watches until close is called.
func newWatch(client kubernetes.Interface, namespace string) *watch {
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), klog.Logger{})) // without its log: outages are a part of the tests
	w := &watch{namespace: namespace, cancel: cancel, changed: make(chan struct{})}
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "pods", namespace, fields.Everything()),
		ObjectType:    &corev1.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { w.wake() },
			UpdateFunc: func(any, any) { w.wake() },
			DeleteFunc: func(any) { w.wake() },
		},
	})
	w.pods = store
	w.done.Go(func() { controller.RunWithContext(ctx) })
	return w
}

func (w *watch) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
}

// next is closed at the next change.
func (w *watch) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

func (w *watch) close() {
	w.cancel()
	w.done.Wait()
}

// get returns a pod, nil if there is none.
func (w *watch) get(name string) *corev1.Pod {
	object, _, _ := w.pods.GetByKey(w.namespace + "/" + name) // the store cannot fail
	pod, _ := object.(*corev1.Pod)
	return pod
}

// await waits until the pod of that name, nil if there is none, is as wanted.
func (w *watch) await(ctx context.Context, name string, wanted func(*corev1.Pod) bool) (*corev1.Pod, error) {
	for {
		changed := w.next()
		pod := w.get(name)
		if wanted(pod) {
			return pod, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("pod %s: %s: %w", name, kube.Condition(pod), context.Cause(ctx))
		}
	}
}

// container returns the state of a container, nil while it has none.
func container(pod *corev1.Pod, name string) *corev1.ContainerState {
	for _, s := range kube.Statuses(pod) {
		if s.Name == name {
			return &s.State
		}
	}
	return nil
}

// running says whether a container of the pod runs.
func running(pod *corev1.Pod, name string) bool {
	state := container(pod, name)
	return state != nil && state.Running != nil
}

// same says whether a pod, nil if there is none, is that one and not another
// one of its name.
func same(pod, that *corev1.Pod) bool { return pod != nil && pod.UID == that.UID }

// started says whether a container of the pod was started.
func started(pod *corev1.Pod, name string) bool {
	state := container(pod, name)
	return state != nil && (state.Running != nil || state.Terminated != nil)
}

// startedOrNever says whether a container of the pod was started, or never will be.
func startedOrNever(pod *corev1.Pod, name string) bool { return finished(pod) || started(pod, name) }

// endedOrNever says whether a container of the pod has ended, or will never start.
func endedOrNever(pod *corev1.Pod, name string) bool {
	state := container(pod, name)
	return finished(pod) || state != nil && state.Terminated != nil
}

// finished says whether nothing of the pod will run any more: the kubelet says
// so, or the control plane does where the kubelet is gone.
func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
