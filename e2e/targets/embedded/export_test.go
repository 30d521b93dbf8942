package embedded

import (
	"context"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// Lacks says what the target lacks for a need.
func (t *Target) Lacks(need scenario.Need) error { return t.lacks(need) }

// Env is a place without anything in a cluster.
type Env interface {
	targets.Env
	targets.QueueControl
	targets.FakeGPUControl
	targets.KubectlControl
	Dir() string
}

// NewOfflineEnv makes one.
func NewOfflineEnv(config Config, isolation targets.Isolation) (Env, error) {
	e := &env{config: config, Place: place.Place{Isolation: isolation}}
	return e, e.layout(context.Background())
}

// Dir is the directory of the place.
func (e *env) Dir() string { return e.dir }
