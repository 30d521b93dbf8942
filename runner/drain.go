package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/fleet"
	"github.com/studioml/studio-go-runner/runner/internal/kube"
	"github.com/studioml/studio-go-runner/runner/internal/statemap"
)

// Drain is the drain command.
type Drain struct {
	Steering `embed:""`

	Reason    string `required:"" placeholder:"TEXT" help:"Why; shown wherever the state is explained."`
	Terminate bool   `help:"The runners end when they have drained; without it they wait for resume."`
	Deadline  *span  `placeholder:"DURATION" help:"How long running tasks may go on from the begin of the drain, as 30m; then they are stopped and requeued. 0 means for ever. Default: as each runner was started."`
}

// Run drains runners.
func (d *Drain) Run(ctx context.Context, stdio stdio) error {
	annotations := map[string]string{api.AnnotationReason: d.Reason}
	if d.Deadline != nil {
		annotations[api.AnnotationDeadline] = time.Duration(*d.Deadline).String()
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

// Help is what --help says besides.
func (Resume) Help() string {
	return "The map of a runner that was named says Running from then on, which outweighs --all: delete it with kubectl, and the runner does as all others again."
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

// Validate is called by kong.
func (s *Steering) Validate() error {
	if s.Timeout != nil && !s.Wait { // a script would go on, and take the runners for drained
		return errors.New("--timeout bounds --wait: say both, or neither")
	}
	return s.Selection.Validate()
}

// change is a map that is to be set, and whose it is now.
type change struct {
	fleet.Runner // its name, who has set it, when, and why
	object       map[string]any
}

// steer sets the STATE that asks for a phase in the maps of those who are meant, in all
// or, where one of them may not be changed, in none.
func (s *Steering) steer(ctx context.Context, stdio stdio, phase api.Phase, annotations map[string]string) error {
	if _, err := api.ParseReason(annotations[api.AnnotationReason]); err != nil {
		return fmt.Errorf("--reason: %w", err)
	}
	runners, err := s.read(ctx)
	if err != nil {
		return err
	}
	meant, err := s.meant(runners)
	if err != nil {
		return err
	}
	changes, err := s.changes(meant, phase, annotations)
	if err != nil {
		return err
	} else if s.Print {
		return s.kubectl(stdio.Out, changes, meant, phase)
	}
	for _, dry := range []bool{true, false} {
		for _, c := range changes {
			problem := s.apply(ctx, c, dry)
			if problem == nil && !dry { // it is so, whatever becomes of the others
				fmt.Fprintf(stdio.Out, "%s: STATE is now %s\n", c.Name, fleet.Asked[phase])
			}
			err = errors.Join(err, problem)
		}
		if err != nil {
			return err
		}
		if s.DryRun == "server" {
			for _, c := range changes {
				fmt.Fprintf(stdio.Out, "%s: STATE would be %s\n", c.Name, fleet.Asked[phase])
			}
			return nil
		}
	}
	for _, r := range meant {
		if s.All && r.Source == api.SourceNode && r.Effective != fleet.Asked[phase] {
			fmt.Fprintf(stdio.Err, "runner: not %s: its own map says %s, set by %s%s; steer it by its name, or delete that map\n", r.Name, r.Effective, r.SetBy, after("; ", r.Reason))
		}
	}
	if s.Wait {
		return s.await(ctx, stdio, phase)
	}
	return nil
}

// changes are the node maps of those who are meant or, for all, the global map.
func (s *Steering) changes(meant []fleet.Runner, phase api.Phase, annotations map[string]string) (changes []change, err error) {
	targets := meant
	switch {
	case s.All:
		targets = []fleet.Runner{{Name: api.GlobalMapName}}
	case len(meant) == 0:
		err = s.nobody()
	}
	if s.ForceConflicts { // what is left of the one before would explain this one
		for _, key := range []string{api.AnnotationReason, api.AnnotationDeadline} {
			annotations[key] += ""
		}
	}
	used := map[string]bool{}
	for _, r := range targets {
		if used[r.Name] { // as by runners that share the network, and so the name, of their node
			continue
		}
		used[r.Name] = true
		_, unfit := statemap.NodeMapName("it", r.Name)
		if p := r.Report; !s.All && (unfit != nil || p != nil && p.Maps.Global != nil && p.Maps.Node == nil) {
			err = errors.Join(err, fmt.Errorf("%s has no node map, since that cannot have the name of its host; steer it with all others, by --all", api.Excerpt(r.Name)))
		}
		changes = append(changes, change{fleet.Owner(r.Name, s.maps), map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": r.Name, "annotations": annotations},
			"data": map[string]any{api.StateKey: fleet.Asked[phase]},
		}})
	}
	return changes, err
}

// apply sets a map, or has the API server check that it could be.
func (s *Steering) apply(ctx context.Context, c change, dry bool) error {
	query := url.Values{"fieldManager": {s.FieldManager}, "force": {strconv.FormatBool(s.ForceConflicts)}}
	if dry {
		query.Set("dryRun", "All")
	}
	err := s.client.Patch(ctx, s.path("configmaps/"+c.Name), query, kube.Apply, c.object)
	switch {
	case err == nil:
		return nil
	case kube.Code(err) != http.StatusConflict:
		return fmt.Errorf("%s: %w", c.Name, err)
	case c.SetBy != "" && c.SetBy != s.FieldManager:
		err = fmt.Errorf("STATE is %s's, who set it %s ago%s", c.SetBy, age(c.SetAt), after(", because: ", c.Reason))
	}
	return fmt.Errorf("%s: %w; ask there, or take it over with --force-conflicts", c.Name, err)
}

// kubectl prints the lines that do the same.
func (s *Steering) kubectl(out io.Writer, changes []change, meant []fleet.Runner, phase api.Phase) error {
	flags := " --namespace=" + s.Namespace
	if s.Kubeconfig != "" {
		flags += " --kubeconfig=" + quoted(s.Kubeconfig)
	}
	if s.Context != "" {
		flags += " --context=" + quoted(s.Context)
	}
	dry := ""
	if s.DryRun != "none" {
		dry = " --dry-run=" + s.DryRun
	}
	fmt.Fprintf(out, "kubectl apply --server-side%s --field-manager=%s --force-conflicts=%t%s --filename=- <<'END'\n", flags, quoted(s.FieldManager), s.ForceConflicts, dry)
	for _, c := range changes {
		text, err := yaml.Marshal(c.object)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "---\n%s", text)
	}
	fmt.Fprintln(out, "END")
	if s.Wait && len(meant) > 0 && dry == "" {
		limit := -time.Second // a week
		if s.Timeout != nil {
			limit = time.Duration(*s.Timeout)
		}
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
