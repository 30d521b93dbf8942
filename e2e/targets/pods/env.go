package pods

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/e2e-framework/klient"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/namespace"
	"github.com/studioml/studio-go-runner/e2e/targets/tasks"
	"github.com/studioml/studio-go-runner/runner/api"
)

// env is the place of one scenario.
type env struct {
	target    *Target
	cluster   cluster
	isolation targets.Isolation

	namespace string
	account   *namespace.Account
	watch     *watch
	gpuNodes  []corev1.Node // where GPUs of the cluster were free for a runner

	keeperMu sync.Mutex // held while the keeper is made; guards kept
	kept     bool       // the keeper is there, and what it makes
	node     string     // of the keeper, as its label kubernetes.io/hostname has it

	mu        sync.Mutex // guards what follows
	elsewhere string
	machines  []string // fake ones that were made
}

var (
	_ targets.Env            = (*env)(nil)
	_ targets.FakeGPUControl = (*env)(nil)
)

// make makes everything in the cluster.
func (e *env) make(ctx context.Context) error {
	labels := e.target.labels()
	// The shipped manifests are for the strictest profile; only what is mounted
	// in place of a driver is not.
	labels["pod-security.kubernetes.io/enforce"] = "restricted"
	if e.usesPlugin() && e.onFakeNodes() {
		labels["pod-security.kubernetes.io/enforce"] = "privileged"
	}
	var err error
	if e.namespace, err = namespace.Create(ctx, e.cluster.client, e.isolation.Name, labels); err != nil {
		return err
	}
	e.watch = newWatch(e.cluster.client, e.namespace)
	if e.account, err = namespace.ShippedAccount(ctx, e.namespace, e.isolation.NodeMaps); err != nil {
		return err
	}
	if err := e.account.Create(ctx, e.cluster.client, e.isolation.Permissions); err != nil {
		return err
	}
	if err := e.createVolume(ctx); err != nil {
		return err
	}
	if e.target.config.Storage.Shared {
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
	if _, err := e.cluster.client.CoreV1().Pods(e.namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
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
	err = e.cluster.exec(ctx, e.namespace, keeper, keeper, nil, nil, "/bin/sh", "-c", "until [ -e "+journal+" ]; do sleep 0.1; done")
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
	return e.watch.await(ctx, keeper, func(p *corev1.Pod) bool { return p != nil && begun(p, keeper) })
}

func (e *env) createVolume(ctx context.Context) error {
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: volume},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	if e.target.config.Storage.Shared {
		claim.Spec.AccessModes[0] = corev1.ReadWriteMany
	}
	if class := e.target.config.Storage.Class; class != "" {
		claim.Spec.StorageClassName = &class
	}
	if _, err := e.cluster.client.CoreV1().PersistentVolumeClaims(e.namespace).Create(ctx, claim, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create volume: %w", err)
	}
	return nil
}

// inKeeper runs a program beside the volume and returns what it prints.
func (e *env) inKeeper(ctx context.Context, stdin io.Reader, command ...string) ([]byte, error) {
	if err := e.keep(ctx); err != nil {
		return nil, err
	}
	var stdout buffer
	err := e.cluster.exec(ctx, e.namespace, keeper, keeper, stdin, &stdout, command...)
	return []byte(stdout.String()), err
}

// Namespace is that of the runners.
func (e *env) Namespace() string { return e.namespace }

// Elsewhere is a namespace in which the runners have no rights.
func (e *env) Elsewhere(ctx context.Context) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.elsewhere != "" {
		return e.elsewhere, nil
	}
	var err error
	e.elsewhere, err = namespace.Create(ctx, e.cluster.client, e.isolation.Name, e.target.labels())
	return e.elsewhere, err
}

// Client acts as the suite.
func (e *env) Client() klient.Client { return e.target.client }

// StartRunner starts a runner, or starts it again under its old name.
func (e *env) StartRunner(ctx context.Context, spec targets.RunnerSpec) (targets.Runner, error) {
	pod, err := e.runnerPod(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("start runner %s: %w", spec.Name, err)
	}
	pods := e.cluster.client.CoreV1().Pods(e.namespace)
	if before := e.watch.get(spec.Name); before != nil {
		if !ended(before, runnerContainer) {
			return nil, fmt.Errorf("start runner %s: it is running", spec.Name)
		}
		if err := pods.Delete(ctx, spec.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("start runner %s: remove its last pod: %w", spec.Name, err)
		}
		if _, err := e.watch.await(ctx, spec.Name, func(p *corev1.Pod) bool { return p == nil }); err != nil {
			return nil, fmt.Errorf("start runner %s: %w", spec.Name, err)
		}
	}
	if pod, err = pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return nil, fmt.Errorf("start runner %s: %w", spec.Name, err)
	}
	// From here on, no such pod means that it has gone.
	if _, err := e.watch.await(ctx, spec.Name, func(p *corev1.Pod) bool { return same(p, pod) }); err != nil {
		return nil, fmt.Errorf("start runner %s: %w", spec.Name, err)
	}
	r := &runner{env: e, pod: pod}
	switch spec.Hostname {
	case "":
		r.nodeMap = spec.Name
	case scenario.NoHost:
	default:
		r.nodeMap = spec.Hostname
	}
	return r, nil
}

// Submit puts tasks into the queue with one call of runner submit.
func (e *env) Submit(ctx context.Context, all []api.Task) error {
	if len(all) == 0 {
		return nil
	}
	documents, err := tasks.Documents(all)
	if err != nil {
		return err
	}
	_, err = e.inKeeper(ctx, bytes.NewReader(documents), "runner", "submit", "--spool="+queueDir, "-")
	return err
}

// Queue lists what is in the queue now.
func (e *env) Queue(ctx context.Context) (api.QueueContents, error) {
	out, err := e.inKeeper(ctx, nil, "runner", "status", "--spool="+queueDir, "--output=json")
	if err != nil {
		return api.QueueContents{}, err
	}
	return tasks.ParseContents(out)
}

// TaskCommand is the command line of a task of the tests.
func (e *env) TaskCommand(spec targets.TaskSpec) (command string, args []string, err error) {
	var hold tasks.Hold
	if spec.Hold {
		hold = tasks.File(release(spec.Group))
	}
	command, args = tasks.Command(journal, hold, spec)
	return command, args, nil
}

// release is the file that lets the held tasks of a group end.
func release(group string) string { return releases + "/" + url.PathEscape(group) }

// Release lets the held tasks of a group end, now and later.
func (e *env) Release(ctx context.Context, group string) error {
	_, err := e.inKeeper(ctx, nil, "touch", release(group))
	return err
}

// Journal calls each for every note of a task until ctx ends. After a broken
// connection it reads on where it was.
func (e *env) Journal(ctx context.Context, each func(targets.TaskNote)) error {
	reader := &tasks.Reader{Each: each}
	if _, err := e.awaitKeeper(ctx); err != nil {
		return nil // there were no tasks
	}
	retry(ctx, func() bool {
		_ = e.cluster.exec(ctx, e.namespace, keeper, keeper, nil, reader, "tail", "-c", fmt.Sprintf("+%d", reader.Taken()+1), "-f", journal)
		return reader.Err() != nil
	})
	return reader.Err()
}

// SetPermissions changes the rights of the runners and waits until they are in force.
func (e *env) SetPermissions(ctx context.Context, p scenario.Permissions) error {
	return e.account.Set(ctx, e.cluster.client, p)
}

// Admission installs the shipped policy for the namespace.
func (e *env) Admission(ctx context.Context) error {
	return namespace.InstallAdmission(ctx, e.cluster.client, e.namespace)
}

// Close removes everything that was made. Runners are not waited for: a
// cluster ends them with their namespace.
func (e *env) Close(ctx context.Context) error {
	var problems []error
	if e.watch != nil {
		e.watch.close()
	}
	for _, name := range []string{e.namespace, e.elsewhere} {
		if name != "" {
			problems = append(problems, namespace.Remove(ctx, e.cluster.client, name))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("close scenario %q: %w", e.isolation.Name, err)
	}
	return nil
}

// inspectImage looks into the image, in a place like that of a scenario, and
// with it at whether such a place can be made.
func (t *Target) inspectImage(ctx context.Context) error {
	const limit = 5 * time.Minute // the image may have to be pulled
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took more than %s", limit))
	defer cancel()
	e := &env{target: t, cluster: t.cluster, isolation: targets.Isolation{Name: "a look at the image"}}
	err := e.make(ctx)
	if err == nil {
		for _, program := range []string{"runner", "tail", "touch", "kill"} {
			if _, missing := e.inKeeper(ctx, nil, "/bin/sh", "-c", "command -v "+program); missing != nil {
				err = errors.Join(err, fmt.Errorf("it has no %s in PATH, which the tests need: %w", program, missing))
			}
		}
		if path, missing := e.inKeeper(ctx, nil, "/bin/sh", "-c", `command -v fakegpu && cd "$(dirname "$(readlink -f "$(command -v fakegpu)")")" && pwd`); missing == nil {
			dir := lastLine(string(path))
			t.handle.FakeGPU, t.handle.Library = dir+"/fakegpu", dir+"/libnvidia-ml.so.1"
		}
	}
	return errors.Join(err, e.Close(context.WithoutCancel(ctx)))
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
