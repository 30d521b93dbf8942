package pods

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

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

	// Library is what Inspect finds, so that other processes need not look again: the fake
	// NVML in the image, with fakegpu beside it; empty if it has none.
	Library string
}

// Target is a cluster whose runners are pods.
type Target struct {
	kube.Access
	Config Config
}

var _ targets.Target = (*Target)(nil)

// Connect makes a target. Unless the configuration is that of one that was inspected, it
// does not know yet what the cluster can do.
func Connect(config Config) (t *Target, err error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = config.Kubeconfig
	t = &Target{Config: config}
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

// lacks says what the cluster and the image lack for a need, or "". Whether GPUs are free
// is looked at when they are wanted.
func (t *Target) lacks(need scenario.Need) (reason string) {
	switch {
	case need == scenario.NeedSignals, need == scenario.NeedGPUs,
		need == scenario.NeedFakeGPUs && t.Config.Library != "", need == scenario.NeedAdmission && t.Config.Owned:
		return ""
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
	err := e.make(ctx)
	if err != nil {
		ctx = context.WithoutCancel(ctx)
		return nil, errors.Join(fmt.Errorf("isolate scenario %q: %w", isolation.Name, err), e.Collect(ctx), e.Close(ctx))
	}
	return e, nil
}

// Inspect looks into the image, in a place like that of a scenario, and with it at whether
// such a place can be made.
func (t *Target) Inspect(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("inspect target %s: %w", t.Config.Name, err)
		}
	}()
	if t.Config.Image == "" {
		return errors.New("no image is given; name one that has the runner and a shell (IMAGE=…)")
	}
	const limit = 5 * time.Minute // the image may have to be pulled
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took more than %s", limit))
	defer cancel()
	e, err := t.Isolate(ctx, targets.Isolation{Name: "a look at the image"})
	if err != nil {
		return err
	}
	programs := []string{"mkfifo", "touch", "kill"}
	if t.Config.Adapter == nil {
		programs = append(programs, "runner")
	}
	const script = `for p; do command -v $p >/dev/null || { echo "it has no $p in PATH, which the tests need" >&2; exit 1; }; done
f=$(command -v fakegpu) && cd "$(dirname "$(readlink -f "$f")")" && pwd || true`
	var library strings.Builder
	err = e.(*env).Run(ctx, nil, &library, append([]string{"/bin/sh", "-c", script, "sh"}, programs...)...)
	if dir := strings.TrimSpace(library.String()); dir != "" {
		t.Config.Library = dir + "/libnvidia-ml.so.1"
	}
	return errors.Join(err, e.Close(context.WithoutCancel(ctx)))
}
