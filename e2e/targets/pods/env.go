package pods

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

const (
	collectDeadline = 30 * time.Second
	maxLog          = 16 << 20 // bytes that are collected of each
)

// env is the place of one scenario.
type env struct {
	place.Place
	target *Target

	watch     *watch
	gpuNodes  []corev1.Node   // where GPUs of the cluster were free for a runner
	ctx       context.Context // of what follows the runners; ends with Close
	cancel    context.CancelFunc
	following sync.WaitGroup

	keeperMu sync.Mutex // held while the keeper is made; guards what follows
	kept     bool       // the keeper is there, and what it makes
	node     string     // of the keeper, as its label kubernetes.io/hostname has it
}

var (
	_ targets.Env            = (*env)(nil)
	_ targets.FakeGPUControl = (*env)(nil)
)

func newEnv(t *Target, isolation targets.Isolation) *env {
	e := &env{target: t, Place: place.Place{Access: t.Access, Isolation: isolation}}
	e.Ground = e
	e.Layout = place.Layout{Runner: "runner", Library: t.handle.Library, Spool: queueDir, Journal: journal, Machines: machines, Adapter: t.handle.Adapter}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// make makes everything in the cluster.
func (e *env) make(ctx context.Context) error {
	labels := e.target.labels()
	// The shipped manifests are for the strictest profile; only what is mounted
	// in place of a driver is not.
	labels["pod-security.kubernetes.io/enforce"] = "restricted"
	if e.usesPlugin() && e.onFakeNodes() {
		labels["pod-security.kubernetes.io/enforce"] = "privileged"
	}
	if err := e.Make(ctx, labels); err != nil {
		return err
	}
	e.watch = newWatch(e.Admin, e.Namespace())
	if err := e.createVolume(ctx); err != nil {
		return err
	}
	if e.target.handle.Storage.Shared {
		return nil // many scenarios have no tasks and never need the keeper
	}
	return e.keep(ctx) // the runners have to be where it is
}

// keep makes the keeper, unless it is there.
func (e *env) keep(ctx context.Context) error {
	e.keeperMu.Lock()
	defer e.keeperMu.Unlock()
	if e.kept {
		return nil
	}
	pod, err := e.keeperPod(ctx)
	if err != nil {
		return err
	}
	if _, err := e.Admin.CoreV1().Pods(e.Namespace()).Create(ctx, pod, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create pod %s: %w", keeper, err)
	}
	pod, err = e.awaitKeeper(ctx)
	if err != nil {
		return err
	}
	e.node = pod.Spec.NodeName // of one that has joined since the look at the nodes it is the best guess
	for _, node := range e.target.handle.Nodes {
		if node.Name == pod.Spec.NodeName {
			e.node = hostname(node)
		}
	}
	// Its command makes the directories after it has begun.
	err = e.exec(ctx, keeper, keeper, nil, nil, "/bin/sh", "-c", "until [ -e "+journal+" ]; do sleep 0.1; done")
	e.kept = err == nil
	return err
}

// hasKeeper says whether something was done through the keeper.
func (e *env) hasKeeper() bool {
	e.keeperMu.Lock()
	defer e.keeperMu.Unlock()
	return e.kept
}

// awaitKeeper waits until the keeper has begun, if somebody makes it.
func (e *env) awaitKeeper(ctx context.Context) (*corev1.Pod, error) {
	return e.watch.await(ctx, keeper, func(p *corev1.Pod) bool { return p != nil && startedOrNever(p, keeper) })
}

func (e *env) createVolume(ctx context.Context) error {
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: volume},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	if e.target.handle.Storage.Shared {
		claim.Spec.AccessModes[0] = corev1.ReadWriteMany
	}
	if class := e.target.handle.Storage.Class; class != "" {
		claim.Spec.StorageClassName = &class
	}
	if _, err := e.Admin.CoreV1().PersistentVolumeClaims(e.Namespace()).Create(ctx, claim, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create volume: %w", err)
	}
	return nil
}

// Run runs a program in the keeper.
func (e *env) Run(ctx context.Context, stdin io.Reader, stdout io.Writer, command ...string) error {
	if err := e.keep(ctx); err != nil {
		return err
	}
	return e.exec(ctx, keeper, keeper, stdin, stdout, command...)
}

// release is the file that lets the held tasks of a group end.
func release(group string) string { return releases + "/" + url.PathEscape(group) }

// Hold needs nothing to be made.
func (e *env) Hold(group string) (string, error) { return release(group), nil }

// Release lets the held tasks of a group end, now and later.
func (e *env) Release(ctx context.Context, group string) error {
	return e.Run(ctx, nil, nil, "touch", release(group))
}

// Journal waits for the keeper: without it there are no tasks.
func (e *env) Journal(ctx context.Context, each func(targets.TaskNote)) error {
	if _, err := e.awaitKeeper(ctx); err != nil {
		return nil
	}
	return e.Place.Journal(ctx, each)
}

// Collect writes what a person needs after a failure into the artifacts, as far
// as it can be had.
func (e *env) Collect(ctx context.Context) error {
	if e.Isolation.Artifacts == "" || e.Namespace() == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, collectDeadline)
	defer cancel()
	collect := e.CollectObjects
	if e.hasKeeper() {
		collect = e.Place.Collect
	}
	if err := errors.Join(collect(ctx), e.collectLogs(ctx)); err != nil {
		return fmt.Errorf("collect artifacts: %w", err)
	}
	return nil
}

// collectLogs writes POD.CONTAINER.log of every container that has begun, and
// what there is of the one before its restart.
func (e *env) collectLogs(ctx context.Context) error {
	pods := e.Admin.CoreV1().Pods(e.Namespace())
	all, err := pods.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var problems []error
	for _, pod := range all.Items {
		for _, c := range pod.Status.ContainerStatuses {
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
					err = e.Save(name+".log", log)
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
		problems = append(problems, place.Remove(ctx, e.Admin, name))
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("close scenario %q: %w", e.Isolation.Name, err)
	}
	return nil
}

// inspectImage looks into the image, in a place like that of a scenario, and
// with it at whether such a place can be made.
func (t *Target) inspectImage(ctx context.Context) error {
	const limit = 5 * time.Minute // the image may have to be pulled
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took more than %s", limit))
	defer cancel()
	e := newEnv(t, targets.Isolation{Name: "a look at the image"})
	err := e.make(ctx)
	if err == nil {
		programs := []string{"runner", "tail", "touch", "kill"}
		if t.handle.Adapter != nil {
			programs = programs[1:]
		}
		for _, program := range programs {
			if _, missing := e.Output(ctx, nil, "/bin/sh", "-c", "command -v "+program); missing != nil {
				err = errors.Join(err, fmt.Errorf("it has no %s in PATH, which the tests need: %w", program, missing))
			}
		}
		if path, missing := e.Output(ctx, nil, "/bin/sh", "-c", `command -v fakegpu && cd "$(dirname "$(readlink -f "$(command -v fakegpu)")")" && pwd`); missing == nil {
			lines := slices.Collect(strings.Lines(strings.TrimSpace(string(path))))
			t.handle.Library = lines[len(lines)-1] + "/libnvidia-ml.so.1"
		}
	}
	return errors.Join(err, e.Close(context.WithoutCancel(ctx)))
}
