package pods

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/studioml/studio-go-runner/e2e/kube"
)

// wake has all that wait look again.
func (e *env) wake() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.changed)
	e.changed = make(chan struct{})
}

// next is closed at the next change.
func (e *env) next() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}

// get returns a pod, nil if there is none.
func (e *env) get(name string) *corev1.Pod {
	object, _, _ := e.pods.GetByKey(e.Namespace() + "/" + name) // the store cannot fail
	pod, _ := object.(*corev1.Pod)
	return pod
}

// await waits until the pod of that name, nil if there is none, is as wanted.
func (e *env) await(ctx context.Context, name string, wanted func(*corev1.Pod) bool) (*corev1.Pod, error) {
	for {
		changed := e.next()
		pod := e.get(name)
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

// stage is how far a container has come.
type stage int

const (
	waiting stage = iota // for its start
	running
	over // it writes nothing any more, if it ever did
)

// reach waits until a container has come so far, and returns the pod, or what is there
// instead of it, if anything.
func (r *runner) reach(ctx context.Context, container string, least stage) (*corev1.Pod, error) {
	return r.env.await(ctx, r.pod.Name, func(p *corev1.Pod) bool { return r.stage(p, container) >= least })
}

// stage is that of a container, if p is the pod of that name as it is now.
func (r *runner) stage(p *corev1.Pod, container string) stage {
	state := r.state(p, container)
	switch {
	case !r.is(p), finished(p), state.Terminated != nil && !(container == beside && sidecar(p)): // which is started again
		return over
	case state.Terminated != nil, state.Running != nil:
		return running
	}
	return waiting
}

// state is that of a container, empty if p is not the pod, or says nothing of it.
func (r *runner) state(p *corev1.Pod, container string) (state corev1.ContainerState) {
	if r.is(p) {
		for _, s := range kube.Statuses(p) {
			if s.Name == container {
				state = s.State
			}
		}
	}
	return state
}

// is says whether there still is the pod, and not another one of its name.
func (r *runner) is(p *corev1.Pod) bool { return p != nil && p.UID == r.pod.UID }

// finished says whether nothing of the pod will run any more: the kubelet says
// so, or the control plane does where the kubelet is gone.
func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// sidecar says whether the container beside the runner is one.
func sidecar(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == beside })
}
