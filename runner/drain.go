package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/user"
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

	Reason    string        `required:"" placeholder:"TEXT" help:"Why; shown wherever the state is explained."`
	Terminate bool          `help:"The runners end when they have drained; without it they wait for resume."`
	Deadline  time.Duration `placeholder:"DURATION" help:"How long running tasks may go on, from the begin of the drain; then they are stopped and requeued. Default: as each runner was started."`
}

// Resume is the resume command.
type Resume struct {
	Steering `embed:""`

	Reason string `placeholder:"TEXT" help:"Why; shown wherever the state is explained."`
}

// Steering is how STATE is set. Commands embed it.
type Steering struct {
	Selection `embed:""`
	Waiting   `embed:""`
	Wait      bool `short:"w" help:"Wait until it is so: every runner that was meant has acted on it."`

	DryRun         string `enum:"none,server" default:"none" help:"server has the API server check it all, and changes nothing."`
	Print          bool   `help:"Print the lines of kubectl that do the same, and change nothing."`
	ForceConflicts bool   `help:"Take STATE over from whoever has set it."`
	FieldManager   string `env:"STUDIOML_FIELD_MANAGER" placeholder:"NAME" help:"Who sets it, as others see it. Default: runner: and the user's name."`
}

// Validate is called by kong.
func (d *Drain) Validate() error {
	_, err := api.ParseReason(d.Reason)
	if strings.TrimSpace(d.Reason) == "" {
		err = errors.New("--reason is empty; must say why, for those who find the runners drained")
	}
	if d.Deadline < 0 {
		err = errors.Join(err, fmt.Errorf("--deadline is %s; must be a duration that is not negative, as 30m", d.Deadline))
	}
	return errors.Join(err, d.Selection.Validate())
}

// Run drains runners.
func (d *Drain) Run(ctx context.Context, stdio stdio) error {
	annotations := map[string]string{api.AnnotationReason: d.Reason}
	if d.Deadline > 0 {
		annotations[api.AnnotationDeadline] = d.Deadline.String()
	}
	if d.Terminate {
		return d.steer(ctx, stdio, api.PhaseTerminated, annotations)
	}
	return d.steer(ctx, stdio, api.PhaseSuspended, annotations)
}

// Validate is called by kong.
func (r *Resume) Validate() error {
	_, err := api.ParseReason(r.Reason)
	return errors.Join(err, r.Selection.Validate())
}

// Run lets runners go on.
func (r *Resume) Run(ctx context.Context, stdio stdio) error {
	annotations := map[string]string{}
	if r.Reason != "" {
		annotations[api.AnnotationReason] = r.Reason
	}
	return r.steer(ctx, stdio, api.PhaseRunning, annotations)
}

// steer sets the STATE that asks for a phase in the maps of those who are meant, in all
// or, where one of them may not be changed, in none.
func (s *Steering) steer(ctx context.Context, stdio stdio, phase api.Phase, annotations map[string]string) error {
	if s.FieldManager == "" {
		s.FieldManager = "runner"
		if u, err := user.Current(); err == nil {
			s.FieldManager += ":" + u.Username
		}
	}
	if err := s.connect(); err != nil {
		return err
	}
	runners, err := s.read(ctx)
	if err != nil {
		return err
	}
	meant, err := s.pick(runners)
	if err != nil {
		return err
	}
	targets := meant
	if s.All {
		targets = []fleet.Runner{{Name: api.GlobalMapName}}
	}
	var maps []map[string]any
	for _, r := range targets {
		maps = append(maps, map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": map[string]any{"name": r.Name, "annotations": annotations},
			"data":     map[string]string{api.StateKey: string(fleet.Asked[phase])},
		})
	}
	if s.Print {
		return s.kubectl(stdio.Out, maps, meant, phase)
	}
	for _, dry := range []bool{true, false} {
		var refused error
		for i, r := range targets {
			refused = errors.Join(refused, s.apply(ctx, r, maps[i], dry))
		}
		if refused != nil {
			return refused
		}
		if said := "is now"; !dry || s.DryRun == "server" {
			if dry {
				said = "would be"
			}
			for _, r := range targets {
				fmt.Fprintf(stdio.Out, "%s: STATE %s %s\n", r.Name, said, fleet.Asked[phase])
			}
		}
		if s.DryRun == "server" {
			return nil
		}
	}
	if s.Wait {
		return s.await(ctx, stdio, &s.Selection, meant, phase)
	}
	if s.All {
		return s.outranked(ctx, stdio.Err, phase)
	}
	return nil
}

// apply changes the map of a runner, or has the API server check that it could.
func (s *Steering) apply(ctx context.Context, r fleet.Runner, object map[string]any, dry bool) error {
	query := url.Values{"fieldManager": {s.FieldManager}, "force": {strconv.FormatBool(s.ForceConflicts)}}
	if dry {
		query.Set("dryRun", "All")
	}
	err := s.client.Patch(ctx, "/api/v1/namespaces/"+s.Namespace+"/configmaps/"+r.Name, query, kube.Apply, object)
	if kube.Code(err) == http.StatusConflict {
		owner := ""
		if r.SetBy != "" && r.SetBy != s.FieldManager {
			owner = fmt.Sprintf("STATE is %s's, who set it %s ago%s; ", r.SetBy, age(r.SetAt), after(", because: ", r.Reason))
		}
		return fmt.Errorf("%s: %s%w; ask there, or take it over with --force-conflicts", r.Name, owner, err)
	} else if err != nil {
		return fmt.Errorf("%s: %w", r.Name, err)
	}
	return nil
}

// outranked warns of the runners whose own map says something else than the one of all.
func (s *Steering) outranked(ctx context.Context, errOut io.Writer, phase api.Phase) error {
	runners, err := s.read(ctx)
	for _, r := range runners {
		if why, never := r.Await(phase); never && !r.Ended && !r.Stray {
			fmt.Fprintf(errOut, "runner: %s is not meant by that: %s\n", r.Name, why)
		}
	}
	return err
}

// kubectl prints the lines that do the same.
func (s *Steering) kubectl(out io.Writer, objects []map[string]any, meant []fleet.Runner, phase api.Phase) error {
	flags := " --namespace=" + s.Namespace
	if s.Kubeconfig != "" {
		flags += " --kubeconfig=" + quoted(s.Kubeconfig)
	}
	fmt.Fprintf(out, "kubectl apply --server-side%s --field-manager=%s --force-conflicts=%t --filename=- <<'END'\n", flags, quoted(s.FieldManager), s.ForceConflicts)
	for _, object := range objects {
		text, err := yaml.Marshal(object)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "---\n%s", text)
	}
	fmt.Fprintln(out, "END")
	if s.Wait && len(meant) > 0 {
		limit := cmp.Or(s.Timeout, -time.Second) // a week
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
