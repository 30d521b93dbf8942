package embedded

import (
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// What the tests reach of the inside, to run without a control plane. Resign
// returns a token with other times.
var (
	NewProxy    = newProxy
	ProcessesOf = processesOf
	Resign      = resign
)

// The methods of the unexported types.
func (p *proxy) Address() string              { return p.port.address() }
func (p *proxy) Certificate() []byte          { return p.front.certificate() }
func (p *proxy) Set(n scenario.Network) error { return p.set(n) }
func (p *proxy) Close()                       { p.close() }

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
	e := &env{target: &Target{config: config}, Place: place.Place{Isolation: isolation}}
	return e, e.layout()
}

// Dir is the directory of the place.
func (e *env) Dir() string { return e.dir }
