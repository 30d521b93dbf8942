package engine

import (
	"context"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

func init() {
	add(scenario.Term{Name: "kubectl", Rules: scenario.Seen, Need: scenario.NeedKubectl,
		Doc: "Runs a line of kubectl, without that word, as a person types it, in the namespace of the runners."}, kubectl.do)
	add(scenario.Term{Name: "owner",
		Doc: "Runs lines of the runner's commands, without that word, on the queue, as the owner of tasks does: cancel held-1."}, owner.do)
	add(scenario.Term{Name: "say", Rules: scenario.Seen, Doc: "Tells whoever looks on what happens next, and why."}, say.do)
}

type say string

func (s say) do(_ context.Context, p *play) error {
	text := strings.TrimSpace(string(s))
	p.record.Add(history.Entry{Output: "\n# " + strings.ReplaceAll(text, "\n", "\n# ") + "\n"})
	return nil
}

type kubectl string

func (k kubectl) do(ctx context.Context, p *play) error {
	return with(p, func(c targets.KubectlControl) error {
		p.record.Add(history.Entry{Output: "$ kubectl " + string(k) + "\n"})
		output, err := c.Kubectl(ctx, string(k))
		if output != "" {
			p.record.Add(history.Entry{Output: output})
		}
		if err != nil {
			return err
		}
		return p.maps.CaughtUp(ctx)
	})
}

type owner []string

func (o owner) do(ctx context.Context, p *play) error {
	return each(o, func(line string) error {
		p.record.Add(history.Entry{Output: "$ runner " + line + "\n"})
		return p.env.Owner(ctx, strings.Fields(line)...)
	})
}
