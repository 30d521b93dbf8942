package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/network"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

// Format is the format of the scenarios that the engine can play. A verb is a row of the
// table below, a fact one of the table in facts.go.
var Format = &scenario.Format{Facts: formatOf(factTable)}

// verbs are how steps are done.
var verbs = map[string]func(value any, ctx context.Context, p *play) error{}

// The table, in the order of the names. It is not a value because some verbs do others.
func init() {
	addSwitch(scenario.Term{Name: "admission", Need: scenario.NeedAdmission,
		Doc: "Installs the shipped ValidatingAdmissionPolicy for the scenario's namespace, and waits until it is enforced."},
		does[targets.Env]{"install": targets.Env.Admission})
	addSwitch(scenario.Term{Name: "apiserver", Doc: "Stops or starts the API server.", Need: scenario.NeedAPIServer},
		does[targets.APIServerControl]{"stop": targets.APIServerControl.StopAPIServer, "start": targets.APIServerControl.StartAPIServer})
	add(scenario.Term{Name: "apply", Doc: "Creates or changes maps, by subject."}, apply)
	add(scenario.Term{Name: "await", Doc: "Waits until all the conditions hold at once, by subject."},
		func(that scenario.Conditions, ctx context.Context, p *play) error {
			return p.await(ctx, that, budgetOf(that))
		})
	add(scenario.Term{Name: "crowd", Doc: "Fills the runners' namespace with maps that concern none of them. " +
		"They are there when the step ends; until the scenario does, they are changed, one at a time."}, Crowd.do)
	add(scenario.Term{Name: "delete", Doc: "Deletes maps, by subject. It does not wait for finalizers."},
		func(all []scenario.MapName, ctx context.Context, p *play) error {
			return each(all, func(subject scenario.MapName) error { return p.delete(ctx, p.named(subject)) })
		})
	add(scenario.Term{Name: "expect",
		Doc: "Says what must hold already, by subject. It waits for nothing but the news of it: runners, tasks and the queue report each with a delay of their own."},
		func(that scenario.Conditions, ctx context.Context, p *play) error {
			return p.await(ctx, that, expectBudget)
		})
	add(scenario.Term{Name: "fakegpu", Need: scenario.NeedFakeGPUs,
		Doc: "Changes the fake GPUs of runners, started or not: a command line of fakegpu with DIR for the state directory, as inject xid DIR 0 79."}, fakegpu.do)
	add(scenario.Term{Name: "flips", Doc: "Applies maps in turn, again and again."}, Flips.do)
	add(scenario.Term{Name: "kubectl", Rules: scenario.Seen, Need: scenario.NeedKubectl,
		Doc: "Runs a line of kubectl, without that word, as a person types it, in the namespace of the runners."}, kubectl.do)
	add(scenario.Term{Name: "manifest", Doc: "Applies YAML text as kubectl reads it. The namespace is filled in."}, Manifest.do)
	add(scenario.Term{Name: "mark", Rules: scenario.Seen, Doc: "Names this point of the record, for never and offset."}, setMark)
	addSwitch(scenario.Term{Name: "namespace",
		Doc: "Begins to delete the runners' namespace, as kubectl delete namespace does; what is in it, other steps delete."},
		does[targets.Env]{"delete": func(e targets.Env, ctx context.Context) error {
			return e.Client().Resources().Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: e.Namespace()}})
		}})
	add(scenario.Term{Name: "network", Need: scenario.NeedNetwork,
		Doc: "Changes what lies between the runners and the API server: restore, cut, drop, how long a connection lives, or what answers in its place."},
		func(n network.Fault, _ context.Context, p *play) error {
			return with(p, func(c targets.NetworkControl) error { return c.SetNetwork(n) })
		})
	add(scenario.Term{Name: "never",
		Doc: "Says what no entry of the record may show. An entry that meets every condition of a subject is a failure."}, Never.do)
	add(scenario.Term{Name: "offset",
		Doc: "Waits until so much time has passed since a mark, where nothing else shows that it has. On a busy machine it is more."}, Offset.do)
	add(scenario.Term{Name: "owner",
		Doc: "Runs lines of the runner's commands, without that word, on the queue, as the owner of tasks does: cancel held-1."}, owner.do)
	add(scenario.Term{Name: "permissions", Doc: "Changes the rights of the runners."},
		func(set scenario.Permissions, ctx context.Context, p *play) error {
			return p.env.SetPermissions(ctx, set)
		})
	addSwitch(scenario.Term{Name: "queue", Doc: "Hides the queue from the runners, or restores it.", Need: scenario.NeedQueueOutage},
		does[targets.QueueControl]{
			"hide":    func(c targets.QueueControl, _ context.Context) error { return c.HideQueue() },
			"restore": func(c targets.QueueControl, _ context.Context) error { return c.RestoreQueue() },
		})
	add(scenario.Term{Name: "release", Doc: "Lets the held tasks of groups end."}, release.do)
	add(scenario.Term{Name: "say", Rules: scenario.Seen, Doc: "Tells whoever looks on what happens next, and why."}, say.do)
	add(scenario.Term{Name: "signal", Doc: "Sends a signal to runners.", Need: scenario.NeedSignals}, signal.do)
	add(scenario.Term{Name: "start", Doc: "Starts delayed runners, and those that ended, under their old name."}, start.do)
	add(scenario.Term{Name: "submit", Doc: "Puts tasks into the queue."}, submit)
	add(scenario.Term{Name: "token", Doc: "Changes the token of the runners' service account.", Need: scenario.NeedToken},
		func(what scenario.Token, ctx context.Context, p *play) error {
			return with(p, func(c targets.TokenControl) error { return c.SetToken(ctx, what) })
		})
	add(scenario.Term{Name: "wait", Doc: "Lets time pass, where there is no cause to wait for."}, Pause.do)
}

// add makes a verb part of the format: do is given what stands behind it.
func add[V any](v scenario.Term, do func(V, context.Context, *play) error) {
	verbs[v.Name] = func(value any, ctx context.Context, p *play) error { return do(value.(V), ctx, p) }
	v.Type = reflect.TypeFor[V]()
	Format.Verbs = append(Format.Verbs, v)
}

// does is what each word of a verb does, with the Env or with a part of it that only
// some targets have.
type does[C any] map[string]func(C, context.Context) error

// addSwitch makes a verb that has one of a few words.
func addSwitch[C any](v scenario.Term, does does[C]) {
	v.Rules = scenario.OneOf(slices.Sorted(maps.Keys(does))...)
	add(v, func(word string, ctx context.Context, p *play) error {
		return with(p, func(c C) error { return does[word](c, ctx) })
	})
}

// each does the same for several subjects, in their order.
func each[S ~string](subjects []S, do func(S) error) error {
	for _, s := range subjects {
		if err := do(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// eachOf does the same with what is said of several subjects, in a fixed order.
func eachOf[S ~string, V any](all map[S]V, do func(S, V) error) error {
	return each(slices.Sorted(maps.Keys(all)), func(s S) error { return do(s, all[s]) })
}

// with does something with an ability of the Env that only some targets have.
func with[C any](p *play, do func(C) error) error {
	c, ok := p.env.(C)
	if !ok {
		return errors.New("the target said that it can do this, but its Env cannot")
	}
	return do(c)
}
