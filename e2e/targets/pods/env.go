package pods

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

const maxLog = 16 << 20 // bytes that are collected of each

// env is the place of one scenario.
type env struct {
	place.Place
	target *Target

	pods      cache.Store // of the namespace, as they are now
	fakeNodes bool        // the GPUs that the cluster gives to runners are fake ones
	notes     chan string
	ctx       context.Context // of what follows the pods; ends with Close
	cancel    context.CancelFunc
	following sync.WaitGroup

	mu       sync.Mutex            // guards what follows
	changed  chan struct{}         // closed, and replaced, at every change that somebody may wait for
	released []string              // files that tasks wait for
	unheard  error                 // why a pod may not have them
	machines map[string][][]string // what was done to fake GPUs, as words of fakegpu
}

var (
	_ targets.Env            = (*env)(nil)
	_ targets.FakeGPUControl = (*env)(nil)
)

func newEnv(t *Target, isolation targets.Isolation) *env {
	e := &env{
		target: t, Place: place.Place{Access: t.Access, Isolation: isolation},
		notes: make(chan string), changed: make(chan struct{}), machines: map[string][][]string{},
	}
	e.Ground = e
	c := t.Config
	e.Layout = place.Layout{Runner: c.Client, Library: c.Library, Journal: journal, Machines: machines, Adapter: c.Adapter}
	e.pods = cache.NewUndeltaStore(func([]any) { e.wake() }, cache.MetaNamespaceKeyFunc)
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// make makes everything in the cluster.
func (e *env) make(ctx context.Context) (err error) {
	if e.usesPlugin() {
		if e.fakeNodes, err = e.target.awaitFreeGPUs(ctx, e.Isolation.GPUs); err != nil {
			return err
		}
	}
	labels := e.target.Config.Run.Labels()
	// The shipped manifests are for the strictest profile; only what is mounted
	// in place of a driver is not.
	labels["pod-security.kubernetes.io/enforce"] = "restricted"
	if e.fakeNodes {
		labels["pod-security.kubernetes.io/enforce"] = "privileged"
	}
	if err := e.Make(ctx, labels); err != nil {
		return err
	}
	pods := cache.NewListWatchFromClient(e.Admin.CoreV1().RESTClient(), "pods", e.Namespace(), fields.Everything())
	reflector := cache.NewReflectorWithOptions(pods, &corev1.Pod{}, e.pods, cache.ReflectorOptions{})
	// Without its log: outages are a part of the tests.
	e.following.Go(func() { reflector.RunWithContext(klog.NewContext(e.ctx, klog.Logger{})) })
	e.following.Go(func() { e.followOthers(e.ctx) })
	if e.idle() {
		return nil
	}
	return e.createQueue(ctx)
}

// idle says whether each runner has an empty queue of its own, and nothing beside it: most
// scenarios are about the maps alone, and a database and a second container take a cluster
// as long as all else that those need. Runners without tasks live long enough to be heard
// from outside.
func (e *env) idle() bool {
	return e.Isolation.Idle && !e.Isolation.Server && e.Layout.Adapter == nil
}

// createQueue makes the database of the scenario, and says where it is: to pods with the
// Secret of runner/deploy/postgres.
func (e *env) createQueue(ctx context.Context) error {
	s, name := e.target.Config.Server, e.Namespace()
	if err := s.Create(ctx, name); err != nil {
		return err
	}
	e.Layout.Queue, e.Layout.Password, e.Layout.Spool = "--queue="+s.Of(name), s.Password, s.ForPods(name)
	secret := &corev1.Secret{StringData: map[string]string{"url": e.Layout.Spool}}
	secret.Name = "studio-go-runner-queue"
	if _, err := e.Admin.CoreV1().Secrets(name).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create the Secret of the queue: %w", err)
	}
	return nil
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
	e.wake()
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
	all, err := e.Admin.CoreV1().Pods(e.Namespace()).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	e.mu.Lock()
	problems := []error{e.unheard}
	e.mu.Unlock()
	save := func(pod, file string, options corev1.PodLogOptions) {
		options.LimitBytes = new(int64(maxLog))
		log, err := e.log(ctx, pod, &options)
		if err == nil && len(log) > 0 {
			err = e.Evidence().Save(file, log)
		}
		problems = append(problems, err)
	}
	for _, pod := range all.Items {
		for _, c := range kube.Statuses(&pod) {
			name := pod.Name + "." + c.Name
			if c.State.Running != nil || c.State.Terminated != nil {
				save(pod.Name, name+".log", corev1.PodLogOptions{Container: c.Name})
			}
			if c.RestartCount > 0 {
				save(pod.Name, name+".previous.log", corev1.PodLogOptions{Container: c.Name, Previous: true})
			}
		}
	}
	return errors.Join(problems...)
}

// log is what a container has written so far.
func (e *env) log(ctx context.Context, pod string, options *corev1.PodLogOptions) ([]byte, error) {
	return e.Admin.CoreV1().Pods(e.Namespace()).GetLogs(pod, options).DoRaw(ctx)
}

// Close removes everything that was made; in a cluster that passes, what runs. Runners are
// not waited for: a cluster ends them with their namespace.
func (e *env) Close(ctx context.Context) error {
	e.cancel()
	e.following.Wait()
	var problems []error
	for _, name := range e.Namespaces() {
		problems = append(problems, e.target.Config.Run.Remove(ctx, e.Admin, name))
	}
	if e.Layout.Queue != "" && !e.target.Config.Run.Passing {
		problems = append(problems, e.target.Config.Server.Drop(ctx, e.Namespace()))
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("close scenario %q: %w", e.Isolation.Name, err)
	}
	return nil
}
