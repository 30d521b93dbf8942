package engine

import (
	"context"
	"strings"
	"time"

	"github.com/invopop/jsonschema"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	crowds "github.com/studioml/studio-go-runner/e2e/crowd"
	"github.com/studioml/studio-go-runner/e2e/network"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

func init() {
	addSwitch(scenario.Term{Name: "admission", Need: scenario.NeedAdmission,
		Doc: "Installs the shipped ValidatingAdmissionPolicy for the scenario's namespace, and waits until it is enforced."},
		does[targets.Env]{"install": targets.Env.Admission})
	addSwitch(scenario.Term{Name: "apiserver", Doc: "Stops or starts the API server.", Need: scenario.NeedAPIServer},
		does[targets.APIServerControl]{"stop": targets.APIServerControl.StopAPIServer, "start": targets.APIServerControl.StartAPIServer})
	add(scenario.Term{Name: "crowd", Doc: "Fills the runners' namespace with maps that concern none of them. " +
		"They are there when the step ends; until the scenario does, they are changed, one at a time."}, Crowd.do)
	add(scenario.Term{Name: "fakegpu", Need: scenario.NeedFakeGPUs,
		Doc: "Changes the fake GPUs of runners, started or not: a command line of fakegpu with DIR for the state directory, as inject xid DIR 0 79."}, fakegpu.do)
	addSwitch(scenario.Term{Name: "namespace",
		Doc: "Begins to delete the runners' namespace, as kubectl delete namespace does; what is in it, other steps delete."},
		does[targets.Env]{"delete": func(e targets.Env, ctx context.Context) error {
			return e.Client().Objects("").Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: e.Namespace()}})
		}})
	add(scenario.Term{Name: "network", Need: scenario.NeedNetwork,
		Doc: "Changes what lies between the runners and the API server: restore, cut, drop, how long a connection lives, or what answers in its place."},
		func(n network.Fault, _ context.Context, p *play) error {
			return with(p, func(c targets.NetworkControl) error { return c.SetNetwork(n) })
		})
	add(scenario.Term{Name: "permissions", Doc: "Changes the rights of the runners."},
		func(set scenario.Permissions, ctx context.Context, p *play) error {
			return p.env.SetPermissions(ctx, set)
		})
	addSwitch(scenario.Term{Name: "queue", Doc: "Hides the queue from the runners, or restores it.", Need: scenario.NeedQueueOutage},
		does[targets.QueueControl]{
			"hide":    func(c targets.QueueControl, _ context.Context) error { return c.HideQueue() },
			"restore": func(c targets.QueueControl, _ context.Context) error { return c.RestoreQueue() },
		})
	add(scenario.Term{Name: "token", Doc: "Changes the token of the runners' service account.", Need: scenario.NeedToken},
		func(what scenario.Token, ctx context.Context, p *play) error {
			return with(p, func(c targets.TokenControl) error { return c.SetToken(ctx, what) })
		})
}

// Crowd is maps that concern no runner.
type Crowd struct {
	// Maps is how many there are.
	Maps int `json:"maps" jsonschema:"minimum=1,maximum=20000"`
	// Every is the time between two changes.
	Every scenario.Duration `json:"every"`
}

func (c Crowd) do(ctx context.Context, p *play) error {
	all, err := crowds.Make(ctx, p.objects(), p.env.Namespace(), c.Maps)
	if err != nil {
		return err
	}
	p.source("crowd", func(ctx context.Context) error { return all.Change(ctx, time.Duration(c.Every)) })
	return nil
}

type (
	fakegpu     map[scenario.RunnerName]fakegpuLine
	fakegpuLine string
)

// JSONSchemaExtend wants what can be a command line; fakegpu itself knows the rest.
func (fakegpuLine) JSONSchemaExtend(s *jsonschema.Schema) {
	s.Title = "a line of fakegpu add, heal, inject, mig, remove or set, with DIR for the state directory"
	s.Pattern = `^(add|heal|inject|mig|remove|set) (.* )?DIR( .*)?$`
}

func (f fakegpu) do(ctx context.Context, p *play) error {
	return eachOf(f, func(name scenario.RunnerName, line fakegpuLine) error {
		spec := targets.RunnerSpec{Name: string(name), Runner: p.scenario.Runners[string(name)]}
		return with(p, func(c targets.FakeGPUControl) error { return c.ChangeGPUs(ctx, spec, strings.Fields(string(line))) })
	})
}
