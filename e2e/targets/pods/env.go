package pods

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

const maxLog = 16 << 20 // bytes that are collected of each

// env is the place of one scenario.
type env struct {
	place.Place
	target *Target

	watch     *watch
	fakeNodes bool // the GPUs that the cluster gives to runners are fake ones
	notes     chan string
	ctx       context.Context // of what follows the pods; ends with Close
	cancel    context.CancelFunc
	following sync.WaitGroup

	mu       sync.Mutex            // guards what follows
	released []string              // files that tasks wait for
	unheard  error                 // why a pod may not have them
	machines map[string][][]string // what was done to fake GPUs, as words of fakegpu
}

var (
	_ targets.Env            = (*env)(nil)
	_ targets.FakeGPUControl = (*env)(nil)
)

func newEnv(t *Target, isolation targets.Isolation) *env {
	e := &env{target: t, Place: place.Place{Access: t.Access, Isolation: isolation}, notes: make(chan string), machines: map[string][][]string{}}
	e.Ground = e
	e.Layout = place.Layout{Runner: t.config.Client, Library: t.config.Library, Journal: journal, Machines: machines, Adapter: t.config.Adapter}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// make makes everything in the cluster.
func (e *env) make(ctx context.Context) error {
	labels := e.target.config.Run.Labels()
	// The shipped manifests are for the strictest profile; only what is mounted
	// in place of a driver is not.
	labels["pod-security.kubernetes.io/enforce"] = "restricted"
	if e.fakeNodes {
		labels["pod-security.kubernetes.io/enforce"] = "privileged"
	}
	if err := e.Make(ctx, labels); err != nil {
		return err
	}
	e.watch = newWatch(e.Admin, e.Namespace())
	e.following.Go(func() { e.followOthers(e.ctx) })
	return e.createQueue(ctx)
}

// release is the file that lets the held tasks of a group end.
func release(group string) string { return releases + url.PathEscape(group) }

// Hold needs nothing to be made.
func (e *env) Hold(group string) (string, error) { return release(group), nil }

// Release lets the held tasks of a group end, now and later. A pod hears of it from
// who follows it: one that is out of reach holds up nobody.
func (e *env) Release(_ context.Context, group string) error {
	e.mu.Lock()
	e.released = append(e.released, release(group))
	e.mu.Unlock()
	e.watch.wake()
	return nil
}

// Journal is what the containers beside the runners have read in the journals.
func (e *env) Journal(ctx context.Context, each func(targets.TaskNote)) error {
	for {
		select {
		case line := <-e.notes:
			if err := place.Note(line, each); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// Logs saves POD.CONTAINER.log of every container that has begun, and
// what there is of the one before its restart.
func (e *env) Logs(ctx context.Context) error {
	if e.Namespace() == "" {
		return nil // it could not be made
	}
	pods := e.Admin.CoreV1().Pods(e.Namespace())
	all, err := pods.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	e.mu.Lock()
	problems := []error{e.unheard}
	e.mu.Unlock()
	for _, pod := range all.Items {
		for _, c := range kube.Statuses(&pod) {
			for _, previous := range []bool{false, true} {
				if !startedOrNever(&pod, c.Name) || previous && c.RestartCount == 0 {
					continue
				}
				options := &corev1.PodLogOptions{Container: c.Name, Previous: previous, LimitBytes: new(int64(maxLog))}
				log, err := pods.GetLogs(pod.Name, options).DoRaw(ctx)
				name := pod.Name + "." + c.Name
				if previous {
					name += ".previous"
				}
				if err == nil && len(log) > 0 {
					err = e.Evidence().Save(name+".log", log)
				}
				problems = append(problems, err)
			}
		}
	}
	return errors.Join(problems...)
}

// Close removes everything that was made. Runners are not waited for: a
// cluster ends them with their namespace.
func (e *env) Close(ctx context.Context) error {
	e.cancel()
	e.following.Wait()
	if e.watch != nil {
		e.watch.close()
	}
	var problems []error
	for _, name := range e.Namespaces() {
		problems = append(problems, e.target.config.Run.Remove(ctx, e.Admin, name))
	}
	if err := errors.Join(append(problems, e.dropQueue(ctx))...); err != nil {
		return fmt.Errorf("close scenario %q: %w", e.Isolation.Name, err)
	}
	return nil
}
