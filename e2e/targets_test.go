package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	. "github.com/onsi/ginkgo/v2"

	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/studioml/studio-go-runner/e2e/controlplane"
	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
	"github.com/studioml/studio-go-runner/e2e/targets/pods"
)

// The targets: what the first process does for all, and how the others, it
// among them, then use it.
var (
	setUp = map[string]func(SpecContext) (ready any, err error){
		"embedded": setUpEmbedded,
		"kind":     setUpKind,
		"existing": setUpExisting,
	}
	open = map[string]func(ready []byte) (targets.Target, error){
		"embedded": openEmbedded,
		"kind":     openKind,
		"existing": openPods,
	}
)

func setUpEmbedded(ctx SpecContext) (any, error) {
	if _, err := os.Stat(config.runner); err != nil {
		return nil, fmt.Errorf("the runner is not built; make e2e does it: %w", err)
	}
	limit := engine.Stretch(placeTime)
	starting, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("starting the control plane took more than %s", limit))
	defer cancel()
	plane, err := controlplane.Start(starting, "", nil)
	if err != nil {
		return nil, err
	}
	DeferCleanup(plane.Close)
	c := embedded.Config{Handle: plane.Handle, RunnerBinary: config.runner, ClientBinary: config.client, NVMLLibrary: config.nvml}
	c.Queues, err = pgserver.Start(pgserver.Hasty, "max_connections=500")
	if errors.Is(err, pgserver.ErrMissing) {
		return c, nil // who needs it says so
	} else if err != nil {
		return nil, err
	}
	DeferCleanup(c.Queues.Close)
	all := c.Queues.Databases()
	return c, all.Init(starting, cmp.Or(config.client, config.runner))
}

func openEmbedded(data []byte) (targets.Target, error) {
	var ready embedded.Config
	if err := json.Unmarshal(data, &ready); err != nil {
		return nil, err
	}
	return embedded.New(ready)
}

func setUpExisting(ctx SpecContext) (any, error) {
	if _, err := newKubectl(""); err != nil { // now rather than in every spec that needs it
		return nil, err
	}
	return setUpPods(ctx, pods.Config{Name: "existing", Kubeconfig: config.kubeconfig, Image: config.image, RuntimeClass: config.runtime})
}

// suiteTime is above what any run of the suite may take; see --timeout in the
// Makefile. What a run has left after that, another one may remove.
const suiteTime = 2 * time.Hour

// setUpPods looks at a cluster and sees to it that nothing stays there.
func setUpPods(ctx SpecContext, c pods.Config) (pods.Config, error) {
	if err := findClient(); err != nil {
		return c, err
	}
	c.Run.Name, c.Run.Expires, c.Client = rand.String(8), time.Now().Add(suiteTime), config.client
	t, err := pods.Connect(c)
	if err != nil {
		return c, err
	}
	if err := t.CheckPermissions(ctx); err != nil {
		return c, err
	}
	if n, err := c.Run.Sweep(ctx, t.Admin); err != nil {
		return c, err
	} else if n > 0 {
		fmt.Printf("removed %d namespaces that earlier runs have left\n", n)
	}
	cleaner, err := startJanitor(c)
	if err != nil {
		return c, err
	}
	DeferCleanup(func(ctx SpecContext) error {
		if _, err := c.Run.Sweep(ctx, t.Admin); err != nil {
			return err // and the janitor tries it again
		}
		return cleaner.dismiss()
	}, NodeTimeout(engine.Stretch(2*cleanupTime)))
	if t.Config.Server, err = setUpQueues(ctx, c, t.Access); err != nil {
		return c, err
	}
	err = t.Inspect(ctx)
	return t.Config, err
}

func openPods(data []byte) (targets.Target, error) {
	var inspected pods.Config
	if err := json.Unmarshal(data, &inspected); err != nil {
		return nil, err
	}
	return pods.Connect(inspected)
}
