package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/e2e-framework/klient"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// Config is what the target needs.
type Config struct {
	// Handle is of the shared control plane, see StartControlPlane.
	Handle Handle
	// RunnerBinary is the program that is tested.
	RunnerBinary string
	// Adapter starts and feeds runners of another make, instead of RunnerBinary.
	Adapter place.Adapter
	// ClientBinary is the program for submits and looks into the queue; empty
	// is RunnerBinary. A race detector there costs much and finds nothing.
	ClientBinary string
	// NVMLLibrary is the fake libnvidia-ml.so.1; without it runners have no GPUs.
	NVMLLibrary string
	// TempDir is where working directories are made; empty is the system's place.
	TempDir string
}

// Validate returns all that is wrong with the configuration.
func (c Config) Validate() error {
	var problems []error
	if len(c.Handle.Kubeconfig) == 0 || c.Handle.Assets == "" {
		problems = append(problems, errors.New("the handle of the control plane is empty"))
	}
	if _, err := os.Stat(c.RunnerBinary); err != nil && c.Adapter == nil {
		problems = append(problems, fmt.Errorf("runner binary: %w", err))
	}
	return errors.Join(problems...)
}

// Target is the embedded target.
type Target struct {
	config Config
	rest   *rest.Config
	admin  kubernetes.Interface
	client klient.Client // shared: each one asks the API server for all it serves
}

var _ targets.Target = (*Target)(nil)

// New makes a target on a control plane that runs.
func New(config Config) (*Target, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("set up embedded target: %w", err)
	}
	t := &Target{config: config}
	var err error
	if t.rest, t.admin, err = connect(config.Handle); err != nil {
		return nil, fmt.Errorf("set up embedded target: %w", err)
	}
	if t.client, err = klient.New(rest.CopyConfig(t.rest)); err != nil {
		return nil, fmt.Errorf("set up embedded target: %w", err)
	}
	return t, nil
}

// connect makes a client with all rights.
func connect(handle Handle) (*rest.Config, kubernetes.Interface, error) {
	config, err := handle.config()
	if err != nil {
		return nil, nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	return config, client, err
}

// Name is embedded.
func (t *Target) Name() string { return "embedded" }

// Can says yes to everything; to GPUs if there is a library for them, and to
// kubectl if it is installed.
func (t *Target) Can(need scenario.Need) (ok bool, reason string) {
	switch need {
	case scenario.NeedAPIServer, scenario.NeedNetwork, scenario.NeedQueueOutage, scenario.NeedSignals, scenario.NeedAdmission, scenario.NeedToken:
		return true, ""
	case scenario.NeedKubectl:
		if _, err := kubectlDir(t.config.Handle.Assets); err != nil {
			return false, err.Error()
		}
		return true, ""
	case scenario.NeedGPUs, scenario.NeedFakeGPUs:
		if t.config.NVMLLibrary == "" {
			return false, "the fake NVML library is not built"
		}
		if _, err := os.Stat(t.config.NVMLLibrary); err != nil {
			return false, "the fake NVML library cannot be used: " + err.Error()
		}
		return true, ""
	}
	return false, fmt.Sprintf("the embedded target does not know the need %q", need)
}

// Isolate makes a namespace, an account for runners, and a queue; and, for a
// scenario that stops the API server, a control plane that is all its own. What was
// made is removed again if anything fails.
func (t *Target) Isolate(ctx context.Context, isolation targets.Isolation) (targets.Env, error) {
	for _, need := range isolation.Needs {
		if ok, reason := t.Can(need); !ok {
			return nil, fmt.Errorf("isolate scenario %q: need %s: %s", isolation.Name, need, reason)
		}
	}
	e := &env{target: t, Place: place.Place{Isolation: isolation}}
	err := e.layout()
	if err == nil {
		err = e.connect(ctx)
	}
	if err != nil {
		err = errors.Join(err, e.Close(context.WithoutCancel(ctx)))
		return nil, fmt.Errorf("isolate scenario %q: %w", isolation.Name, err)
	}
	return e, nil
}
