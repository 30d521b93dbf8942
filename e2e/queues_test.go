package e2e_test

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os/exec"

	. "github.com/onsi/ginkgo/v2"

	"github.com/studioml/studio-go-runner/e2e/program"
	"github.com/studioml/studio-go-runner/e2e/targets/pods"
)

// setUpQueues starts the PostgreSQL server of the queues. Each scenario gets a copy of
// one that has its tables.
func setUpQueues(ctx SpecContext, t *pods.Target) (s pods.Server, err error) {
	s, stop, err := t.StartServer(ctx, config.postgres)
	if err != nil {
		return s, err
	}
	DeferCleanup(stop)
	s.Template = "template"
	if err := s.Exec(ctx, "create database "+s.Template); err != nil {
		return s, fmt.Errorf("make the template of the queues: %w", err)
	}
	at := "STUDIOML_QUEUE=" + s.URL(s.Here, s.Template, url.UserPassword(s.User, s.Password))
	return s, program.Run(ctx, []string{at}, nil, nil, config.client, "queue", "init")
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
