package e2e_test

import (
	"cmp"
	"errors"
	"os/exec"

	. "github.com/onsi/ginkgo/v2"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/pgserver/incluster"
	"github.com/studioml/studio-go-runner/e2e/targets/pods"
)

// setUpQueues starts the PostgreSQL server of the queues. Each scenario gets a copy of
// one that has its tables.
func setUpQueues(ctx SpecContext, c pods.Config, access kube.Access) (incluster.Server, error) {
	queues := incluster.Config{Access: access, Labels: c.Run.Labels(), Image: config.postgres, ControlPlane: c.Owned}
	s, stop, err := queues.Start(ctx)
	if err != nil {
		return s, err
	}
	DeferCleanup(stop)
	return s, s.Init(ctx, config.client)
}

// findClient finds the runner's program, for submits and looks into the queue.
func findClient() error {
	path, err := exec.LookPath(cmp.Or(config.client, "runner"))
	if err != nil {
		return errors.Join(errors.New("the runner's program is missing, by which tasks are submitted; make e2e builds it"), err)
	}
	config.client = path
	return nil
}
