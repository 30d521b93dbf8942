package pods

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// Config is what the target needs.
type Config struct {
	// Name is kind or existing.
	Name string
	// Kubeconfig is the file that says how to reach the cluster; empty is
	// KUBECONFIG, ~/.kube/config or, in a pod, its service account.
	Kubeconfig string
	// Image has the runner, called runner and in PATH, and a shell for the tasks of the tests.
	Image string
	// Adapter starts and feeds runners of another make, in Image.
	Adapter place.Adapter
	// Storage is where queues are.
	Storage Storage
	// RuntimeClass is that of runners with GPUs of the cluster, empty for the
	// nodes' default.
	RuntimeClass string
	// Run marks everything that this run of the suite makes.
	Run string
	// Expires is when another run may remove what this one has left.
	Expires time.Time
	// Owned says that the cluster is the suite's own: it may make things that
	// are not in a namespace.
	Owned bool
}

// Storage says how volumes are made.
type Storage struct {
	// Class is the storage class, empty for the cluster's default.
	Class string
	// Shared means that pods of several nodes can use one volume
	// (ReadWriteMany); else all pods of a scenario are on one node.
	Shared bool
}

// ParseStorage reads CLASS or CLASS:shared; both parts may be empty.
func ParseStorage(text string) (Storage, error) {
	class, mode, found := strings.Cut(text, ":")
	if found && mode != "shared" {
		return Storage{}, fmt.Errorf("storage is %q, and must be the name of a storage class, with :shared after it where several nodes can mount its volumes", text)
	}
	return Storage{Class: class, Shared: found}, nil
}

// Target is a cluster whose runners are pods.
type Target struct {
	place.Access
	handle Handle
}

var _ targets.Target = (*Target)(nil)

// Connect makes a target that does not know yet what the cluster can do.
func Connect(config Config) (*Target, error) { return Open(Handle{Config: config}) }

// Inspect looks at what can be done on the cluster: what nodes it has, and what
// is in the image.
func (t *Target) Inspect(ctx context.Context) error {
	if t.handle.Image == "" {
		return fmt.Errorf("inspect target %s: no image is given; name one that has the runner and a shell (IMAGE=…)", t.handle.Name)
	}
	for _, look := range []func(context.Context) error{t.findNodes, t.inspectImage} {
		if err := look(ctx); err != nil {
			return fmt.Errorf("inspect target %s: %w", t.handle.Name, err)
		}
	}
	return nil
}

// Handle is what another process needs to use the same target.
type Handle struct {
	Config
	Nodes   []corev1.Node
	Library string // the fake NVML in the image, with fakegpu beside it; empty if it has none
}

// Handle is for Open.
func (t *Target) Handle() Handle { return t.handle }

// Open makes the target that another process has inspected.
func Open(handle Handle) (t *Target, err error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = handle.Kubeconfig
	t = &Target{handle: handle}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err == nil {
		t.Access, err = place.Connect(config)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to target %s (KUBECONFIG): %w", handle.Name, err)
	}
	return t, nil
}

// Sweep removes everything that this run has made.
func (t *Target) Sweep(ctx context.Context) error { return Sweep(ctx, t.Admin, t.handle.Run) }

func (t *Target) findNodes(ctx context.Context) error {
	nodes, err := t.Admin.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the nodes: %w", err)
	}
	for _, node := range nodes.Items {
		node.ManagedFields, node.Status.Images = nil, nil // much, and nobody reads it
		t.handle.Nodes = append(t.handle.Nodes, node)
	}
	return nil
}

// lacks says what the cluster and the image lack for a need, or "".
func (t *Target) lacks(need scenario.Need) (reason string) {
	noFakes := t.handle.Library == ""
	switch need {
	case scenario.NeedSignals:
		return ""
	case scenario.NeedGPUs:
		if noFakes && !slices.ContainsFunc(t.handle.Nodes, hasGPUs) {
			return "no node has " + gpuResource + " to allocate, and the image has no fake GPUs"
		}
		return ""
	case scenario.NeedFakeGPUs:
		if noFakes {
			return "the image has no fake GPUs"
		}
		return ""
	case scenario.NeedAdmission:
		if !t.handle.Owned {
			return "an admission policy is for the whole cluster, and this one is somebody's own"
		}
		return ""
	}
	return fmt.Sprintf("runners in pods do not have the need %q", need)
}

// Isolate makes a namespace with an account and a volume.
func (t *Target) Isolate(ctx context.Context, isolation targets.Isolation) (targets.Env, error) {
	for _, need := range isolation.Needs {
		if reason := t.lacks(need); reason != "" {
			return nil, targets.Cannot(fmt.Sprintf("needs %s: %s", need, reason))
		}
	}
	e := newEnv(t, isolation)
	if e.usesPlugin() {
		var err error
		if e.gpuNodes, err = t.awaitFreeGPUs(ctx, isolation.GPUs); err != nil {
			return nil, fmt.Errorf("isolate scenario %q: %w", isolation.Name, err)
		}
	}
	if err := e.make(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("isolate scenario %q: %w", isolation.Name, err), e.Collect(context.WithoutCancel(ctx)), e.Close(context.WithoutCancel(ctx)))
	}
	return e, nil
}

// labels mark a namespace of this run.
func (t *Target) labels() map[string]string {
	return map[string]string{runLabel: t.handle.Run, expiresLabel: strconv.FormatInt(t.handle.Expires.Unix(), 10)}
}
