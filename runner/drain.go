package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/fleet"
	"github.com/studioml/studio-go-runner/runner/internal/kube"
)

// Drain is the drain command.
type Drain struct {
	Steering `embed:""`

	Reason    string `required:"" placeholder:"TEXT" help:"Why; shown wherever the state is explained."`
	Terminate bool   `help:"The runners end when they have drained; without it they wait for resume."`
	Deadline  span   `placeholder:"DURATION" help:"How long running tasks may go on from the begin of the drain, as 30m; then they are stopped and requeued. Default: as each runner was started."`
}

// Run drains runners.
func (d *Drain) Run(ctx context.Context, stdio stdio) error {
	annotations := map[string]string{api.AnnotationReason: d.Reason}
	if d.Deadline > 0 {
		annotations[api.AnnotationDeadline] = time.Duration(d.Deadline).String()
	}
	if strings.TrimSpace(d.Reason) == "" {
		return errors.New("--reason is empty; must say why, for those who find the runners drained")
	}
	return d.steer(ctx, stdio, map[bool]api.Phase{false: api.PhaseSuspended, true: api.PhaseTerminated}[d.Terminate], annotations)
}

// Resume is the resume command.
type Resume struct {
	Steering `embed:""`

	Reason string `placeholder:"TEXT" help:"Why; shown wherever the state is explained."`
}

// Run lets runners go on.
func (r *Resume) Run(ctx context.Context, stdio stdio) error {
	annotations := map[string]string{}
	if r.Reason != "" {
		annotations[api.AnnotationReason] = r.Reason
	}
	return r.steer(ctx, stdio, api.PhaseRunning, annotations)
}

// Steering is how STATE is set. Commands embed it.
type Steering struct {
	Selection `embed:""`

	Wait           bool   `short:"w" help:"Wait until it is so: every runner that is meant has acted on it."`
	DryRun         string `enum:"none,server" default:"none" help:"server has the API server check it all, and changes nothing."`
	Print          bool   `help:"Print the lines of kubectl that do the same, and change nothing."`
	ForceConflicts bool   `help:"Take STATE over from whoever has set it."`
	FieldManager   string `env:"STUDIOML_FIELD_MANAGER" default:"${manager}" placeholder:"NAME" help:"Who sets it, as others see it (default ${default})."`
}

// steer sets the STATE that asks for a phase in the maps of those who are meant, in all
// or, where one of them may not be changed, in none.
func (s *Steering) steer(ctx context.Context, stdio stdio, phase api.Phase, annotations map[string]string) error {
	_, err := api.ParseReason(annotations[api.AnnotationReason])
	if err != nil {
		return err
	}
	runners, err := s.read(ctx)
	if err != nil {
		return err
	}
	meant, err := s.meant(runners)
	if err == nil && len(meant) == 0 && !s.All {
		err = fmt.Errorf("no runner of namespace %s is on a node %s", s.Namespace, s.Node)
	}
	if err != nil {
		return err
	}
	if s.ForceConflicts { // what is left of the one before would explain this one
		for _, key := range []string{api.AnnotationReason, api.AnnotationDeadline} {
			annotations[key] += ""
		}
	}
	targets := meant
	if s.All {
		targets = []fleet.Runner{{}}
		if i := slices.IndexFunc(runners, func(r fleet.Runner) bool { return r.Source == api.SourceGlobal }); i >= 0 {
			targets[0] = runners[i] // which knows who has set it
		}
		targets[0].Name = api.GlobalMapName
	}
	object := func(r fleet.Runner) any {
		return map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": r.Name, "annotations": annotations},
			"data": map[string]any{api.StateKey: fleet.Asked[phase]},
		}
	}
	if s.Print {
		return s.kubectl(stdio.Out, targets, object, meant, phase)
	}
	for _, dry := range []bool{true, false} {
		for _, r := range targets {
			err = errors.Join(err, s.apply(ctx, r, object(r), dry))
		}
		if err != nil {
			return err
		}
		for _, r := range targets {
			if dry == (s.DryRun == "server") {
				fmt.Fprintf(stdio.Out, "%s: STATE %s %s\n", r.Name, map[bool]string{true: "would be", false: "is now"}[dry], fleet.Asked[phase])
			}
		}
		if s.DryRun == "server" {
			return nil
		}
	}
	for _, r := range meant {
		if s.All && r.Source == api.SourceNode && r.Effective != fleet.Asked[phase] {
			fmt.Fprintf(stdio.Err, "runner: not %s: its own map says %s, set by %s%s\n", r.Name, r.Effective, r.SetBy, after("; ", r.Reason))
		}
	}
	if s.Wait {
		return s.await(ctx, stdio, phase)
	}
	return nil
}

// apply changes the map of a runner, or has the API server check that it could.
func (s *Steering) apply(ctx context.Context, r fleet.Runner, object any, dry bool) error {
	query := url.Values{"fieldManager": {s.FieldManager}, "force": {strconv.FormatBool(s.ForceConflicts)}}
	if dry {
		query.Set("dryRun", "All")
	}
	err := s.client.Patch(ctx, s.path("configmaps/"+r.Name), query, kube.Apply, object)
	switch {
	case err == nil:
		return nil
	case kube.Code(err) != http.StatusConflict:
		return fmt.Errorf("%s: %w", r.Name, err)
	case r.SetBy != "" && r.SetBy != s.FieldManager:
		err = fmt.Errorf("STATE is %s's, who set it %s ago%s", r.SetBy, age(r.SetAt), after(", because: ", r.Reason))
	}
	return fmt.Errorf("%s: %w; ask there, or take it over with --force-conflicts", r.Name, err)
}

// kubectl prints the lines that do the same.
func (s *Steering) kubectl(out io.Writer, targets []fleet.Runner, object func(fleet.Runner) any, meant []fleet.Runner, phase api.Phase) error {
	flags := " --namespace=" + s.Namespace
	if s.Kubeconfig != "" {
		flags += " --kubeconfig=" + quoted(s.Kubeconfig)
	}
	fmt.Fprintf(out, "kubectl apply --server-side%s --field-manager=%s --force-conflicts=%t --filename=- <<'END'\n", flags, quoted(s.FieldManager), s.ForceConflicts)
	for _, r := range targets {
		text, err := yaml.Marshal(object(r))
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "---\n%s", text)
	}
	fmt.Fprintln(out, "END")
	if s.Wait && len(meant) > 0 {
		limit := cmp.Or(time.Duration(s.Timeout), -time.Second) // a week
		fmt.Fprintf(out, "kubectl wait%s --for=jsonpath='{.metadata.labels.studioml\\.io/phase}'=%s --timeout=%s", flags, phase, limit)
		for _, r := range meant {
			fmt.Fprint(out, " pod/", r.Pod)
		}
		fmt.Fprintln(out)
	}
	return nil
}

// quoted is one word of a shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
