package engine

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/network"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

// does is what each word of a verb does, with the Env or with a part of it that only
// some targets have.
type does[C any] map[string]func(C, context.Context) error

// addSwitch makes a verb that has one of a few words.
func addSwitch[C any](v scenario.Verb, does does[C]) {
	v.Rules = scenario.OneOf(slices.Sorted(maps.Keys(does))...)
	add(v, func(word string, ctx context.Context, p *play) error {
		return with(p, func(c C) error { return does[word](c, ctx) })
	})
}

func init() {
	addSwitch(scenario.Verb{Name: "apiserver", Doc: "Stops or starts the API server.", Need: scenario.NeedAPIServer},
		does[targets.APIServerControl]{"stop": targets.APIServerControl.StopAPIServer, "start": targets.APIServerControl.StartAPIServer})
	addSwitch(scenario.Verb{Name: "queue", Doc: "Hides the queue from the runners, or restores it.", Need: scenario.NeedQueueOutage},
		does[targets.QueueControl]{
			"hide":    func(c targets.QueueControl, _ context.Context) error { return c.HideQueue() },
			"restore": func(c targets.QueueControl, _ context.Context) error { return c.RestoreQueue() },
		})
	addSwitch(scenario.Verb{Name: "admission", Need: scenario.NeedAdmission,
		Doc: "Installs the shipped ValidatingAdmissionPolicy for the scenario's namespace, and waits until it is enforced."},
		does[targets.Env]{"install": targets.Env.Admission})
	addSwitch(scenario.Verb{Name: "namespace",
		Doc: "Begins to delete the runners' namespace, as kubectl delete namespace does; what is in it, other steps delete."},
		does[targets.Env]{"delete": func(e targets.Env, ctx context.Context) error {
			return e.Client().Resources().Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: e.Namespace()}})
		}})
	add(scenario.Verb{Name: "token", Doc: "Changes the token of the runners' service account.", Need: scenario.NeedToken},
		func(what scenario.Token, ctx context.Context, p *play) error {
			return with(p, func(c targets.TokenControl) error { return c.SetToken(ctx, what) })
		})
	add(scenario.Verb{Name: "permissions", Doc: "Changes the rights of the runners."},
		func(set scenario.Permissions, ctx context.Context, p *play) error {
			return p.env.SetPermissions(ctx, set)
		})
	add(scenario.Verb{Name: "network", Need: scenario.NeedNetwork,
		Doc: "Changes what lies between the runners and the API server: restore, cut, drop, how long a connection lives, or what answers in its place."},
		func(n network.Fault, _ context.Context, p *play) error {
			return with(p, func(c targets.NetworkControl) error { return c.SetNetwork(n) })
		})
}
