package pods

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/pgserver/incluster"
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
	// Client is the runner's program on this machine, for submits and looks into the queue.
	Client string
	// Server has the queues.
	Server incluster.Server
	// Adapter starts and feeds runners of another make, in Image.
	Adapter place.Adapter
	// RuntimeClass is that of runners with GPUs of the cluster, empty for the
	// nodes' default.
	RuntimeClass string
	// Run marks everything that the suite makes.
	Run kube.Run
	// Owned says that the cluster is the suite's own: it may make things that
	// are not in a namespace.
	Owned bool

	// What Inspect finds, so that other processes need not look again: whether a node has
	// GPUs, and the fake NVML in the image, with fakegpu beside it; empty if it has none.
	GPUs    bool
	Library string
}

// Target is a cluster whose runners are pods.
type Target struct {
	kube.Access
	config Config
}

var _ targets.Target = (*Target)(nil)

// Inspect looks at what can be done on the cluster: what nodes it has, and what
// is in the image.
func (t *Target) Inspect(ctx context.Context) error {
	if t.config.Image == "" {
		return fmt.Errorf("inspect target %s: no image is given; name one that has the runner and a shell (IMAGE=…)", t.config.Name)
	}
	nodes, err := t.Admin.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err == nil {
		t.config.GPUs = slices.ContainsFunc(nodes.Items, hasGPUs)
		err = t.inspectImage(ctx)
	}
	if err != nil {
		return fmt.Errorf("inspect target %s: %w", t.config.Name, err)
	}
	return nil
}

// Config is for other processes, which use the same target.
func (t *Target) Config() Config { return t.config }

// Connect makes a target. Unless the configuration is that of one that was inspected, it
// does not know yet what the cluster can do.
func Connect(config Config) (t *Target, err error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = config.Kubeconfig
	t = &Target{config: config}
	access, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err == nil {
		t.Access, err = kube.Connect(access)
	}
	if clientcmd.IsEmptyConfig(err) {
		err = errors.New("no cluster is named; set it to the file that says how to reach one")
	}
	if err != nil {
		return nil, fmt.Errorf("connect to target %s (KUBECONFIG): %w", config.Name, err)
	}
	return t, nil
}

// lacks says what the cluster and the image lack for a need, or "".
func (t *Target) lacks(need scenario.Need) (reason string) {
	fakes := t.config.Library != ""
	switch {
	case need == scenario.NeedSignals, need == scenario.NeedFakeGPUs && fakes,
		need == scenario.NeedGPUs && (fakes || t.config.GPUs), need == scenario.NeedAdmission && t.config.Owned:
		return ""
	case need == scenario.NeedGPUs:
		return "no node has " + gpuResource + " to allocate, and the image has no fake GPUs"
	case need == scenario.NeedFakeGPUs:
		return "the image has no fake GPUs"
	case need == scenario.NeedAdmission:
		return "an admission policy is for the whole cluster, and this one is somebody's own"
	}
	return fmt.Sprintf("runners in pods do not have the need %q", need)
}

// Isolate makes a namespace with an account and a queue.
func (t *Target) Isolate(ctx context.Context, isolation targets.Isolation) (targets.Env, error) {
	for _, need := range isolation.Needs {
		if reason := t.lacks(need); reason != "" {
			return nil, targets.Cannot(fmt.Sprintf("needs %s: %s", need, reason))
		}
	}
	e := newEnv(t, isolation)
	if e.usesPlugin() {
		var err error
		if e.fakeNodes, err = t.awaitFreeGPUs(ctx, isolation.GPUs); err != nil {
			return nil, fmt.Errorf("isolate scenario %q: %w", isolation.Name, err)
		}
	}
	if err := e.make(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("isolate scenario %q: %w", isolation.Name, err), e.Collect(context.WithoutCancel(ctx)), e.Close(context.WithoutCancel(ctx)))
	}
	return e, nil
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
		programs := "runner mkfifo touch kill"
		if t.config.Adapter != nil {
			programs = "mkfifo touch kill"
		}
		const script = `for p; do command -v $p >/dev/null || { echo "it has no $p in PATH, which the tests need" >&2; exit 1; }; done
f=$(command -v fakegpu) && cd "$(dirname "$(readlink -f "$f")")" && pwd || true`
		var library bytes.Buffer
		err = e.Run(ctx, nil, &library, append([]string{"/bin/sh", "-c", script, "sh"}, strings.Fields(programs)...)...)
		if dir := strings.TrimSpace(library.String()); dir != "" {
			t.config.Library = dir + "/libnvidia-ml.so.1"
		}
	}
	return errors.Join(err, e.Close(context.WithoutCancel(ctx)))
}
