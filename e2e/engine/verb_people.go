package engine

import (
	"context"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

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
