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
	"github.com/studioml/studio-go-runner/runner/internal/statemap"
)

type Drain struct {
	Steering `embed:""`

	Reason    string `required:"" placeholder:"TEXT" help:"Why; shown wherever the state is explained."`
	Terminate bool   `help:"The runners end when they have drained; without it they wait for resume."`
	Deadline  *span  `placeholder:"DURATION" help:"How long running tasks may go on from the begin of the drain, as 30m; then they are stopped and requeued. 0 means for ever. Default: as each runner was started."`
}

func (d *Drain) Run(ctx context.Context, stdio stdio) error {
	if strings.TrimSpace(d.Reason) == "" {
		return errors.New("--reason is empty; must say why, for those who find the runners drained")
	}
	phase, deadline := api.PhaseSuspended, ""
	if d.Terminate {
		phase = api.PhaseTerminated
	}
	if d.Deadline != nil {
		deadline = time.Duration(*d.Deadline).String()
	}
	return d.steer(ctx, stdio, phase, d.Reason, deadline)
}

type Resume struct {
	Steering `embed:""`

	Reason string `placeholder:"TEXT" help:"Why; shown wherever the state is explained."`
}

func (Resume) Help() string {
	return "The map of a runner that was named says Running from then on, which outweighs --all: delete it with kubectl, and the runner does as all others again."
}

func (r *Resume) Run(ctx context.Context, stdio stdio) error {
	return r.steer(ctx, stdio, api.PhaseRunning, r.Reason, "")
}

// Selection says which runners are meant, and how long to wait for them. Commands embed it.
type Selection struct {
	Fleet `embed:""`

	All     bool  `help:"All runners of the namespace."`
	Timeout *span `placeholder:"DURATION" help:"How long to wait, as 30m; then the exit code is 3. Default: for ever. It is 4, at once, where it cannot come true."`
}

func (s *Selection) Validate() error {
	if s.Timeout != nil && *s.Timeout == 0 {
		return errors.New("--timeout is 0; must be above 0, as 30m, and to wait for ever be left out")
	}
	if len(slices.DeleteFunc([]bool{len(s.Names) > 0, s.All, s.Node != ""}, func(used bool) bool { return !used })) != 1 {
		return errors.New("name runners, or a --node for those on it, or --all: one of these")
	}
	return nil
}

// meant are the runners of the selection. One that has ended is meant only by its name.
func (s *Selection) meant(runners []fleet.Runner) ([]fleet.Runner, error) {
	return s.pick(slices.DeleteFunc(slices.Clone(runners), func(r fleet.Runner) bool {
		return r.Stray || r.Ended && !slices.Contains(s.Names, r.Name)
	}))
}

// errTimedOut ends a wait that takes longer than --timeout.
var errTimedOut = errors.New("timed out")

// await tells of the runners until all that are meant are in a phase. What goes away
// runs no task any more, and what comes begins with what the maps say.
func (s *Selection) await(ctx context.Context, stdio stdio, phase api.Phase) error {
	if s.Timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(*s.Timeout), errTimedOut)
		defer cancel()
	}
	late := []string{"nothing was heard from the API server"}
	var said map[string]string // of whom what
	err := s.poll(ctx, stdio.Err, func(runners []fleet.Runner) (bool, error) {
		meant, absent := s.meant(runners)
		if said == nil { // later a runner may be away for a moment
			if absent == nil && len(meant) == 0 {
				absent = s.nobody()
			}
			if absent != nil {
				return true, absent
			}
			said = map[string]string{}
		}
		late = nil
		if absent != nil && phase != api.PhaseTerminated {
			late = append(late, absent.Error())
		} else if len(meant) == 0 && phase == api.PhaseRunning { // while nobody runs tasks, all are drained
			late = append(late, s.nobody().Error())
		}
		for _, r := range meant {
			missing, never := r.Missing(phase)
			name, missing := line(r.Name), line(missing)
			if never {
				return true, fmt.Errorf("this cannot come true: %s %s%w", name, missing, exitCode(api.ExitNever))
			} else if missing != "" {
				late = append(late, name+" "+missing)
			}
			if now := name + " " + cmp.Or(missing, "is "+string(phase)); now != said[r.Pod] {
				fmt.Fprintln(stdio.Out, now)
				said[r.Pod] = now
			}
		}
		return len(late) == 0, nil
	})
	if errors.Is(err, errTimedOut) {
		text := strings.Join(late, "; ")
		err = fmt.Errorf("%w after %s: %s%w", err, time.Duration(*s.Timeout), text, exitCode(api.ExitTimedOut))
	}
	return err
}

type Wait struct {
	Selection `embed:""`

	For goal `required:"" enum:"Running,Suspended,Terminated" placeholder:"PHASE" help:"What is to be so: ${enum}."`
}

func (w *Wait) Run(ctx context.Context, stdio stdio) error {
	return w.await(ctx, stdio, api.Phase(w.For))
}

// goal is a phase, in whatever case it was typed.
type goal api.Phase

func (g *goal) UnmarshalText(text []byte) error {
	*g = goal(text)
	for phase := range fleet.Asked {
		if strings.EqualFold(string(text), string(phase)) {
			*g = goal(phase)
		}
	}
	return nil
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

func (s *Steering) Validate() error {
	if s.Timeout != nil && !s.Wait { // a script would go on, and take the runners for drained
		return errors.New("--timeout bounds --wait: say both, or neither")
	}
	return s.Selection.Validate()
}

// steer sets the STATE that asks for a phase in the maps of those who are meant, in all
// or, where one of them may not be changed, in none.
func (s *Steering) steer(ctx context.Context, stdio stdio, phase api.Phase, reason, deadline string) error {
	if _, err := api.ParseReason(reason); err != nil {
		return fmt.Errorf("--reason: %w", err)
	}
	annotations := map[string]string{}
	for key, text := range map[string]string{api.AnnotationReason: reason, api.AnnotationDeadline: deadline} {
		if text != "" || s.ForceConflicts { // what is left of the one before would explain this one
			annotations[key] = text
		}
	}
	state := fleet.Asked[phase]
	config := func(name string) map[string]any {
		return map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": map[string]any{"name": name, "annotations": annotations},
			"data":     map[string]any{api.StateKey: state},
		}
	}
	runners, err := s.read(ctx)
	if err != nil {
		return err
	}
	meant, err := s.meant(runners)
	if err != nil {
		return err
	}
	names, err := s.maps(meant)
	if err != nil {
		return err
	}
	if s.Print {
		return s.kubectl(stdio.Out, names, config, meant, phase)
	}
	for _, name := range names {
		err = errors.Join(err, s.apply(ctx, name, config(name), true))
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		is := "would be"
		if s.DryRun == "none" {
			if problem := s.apply(ctx, name, config(name), false); problem != nil {
				err = errors.Join(err, problem) // the others are changed, whatever becomes of this one
				continue
			}
			is = "is now"
		}
		fmt.Fprintf(stdio.Out, "%s: STATE %s %s\n", name, is, state)
	}
	if err != nil || s.DryRun != "none" {
		return err
	}
	for _, r := range meant {
		if s.All && r.Source == api.SourceNode && r.Effective != state {
			fmt.Fprintf(stdio.Err, "runner: not %s: its own map says %s, set by %s%s; steer it by its name, or delete that map\n",
				r.Name, r.Effective, r.SetBy, after("; ", r.Reason))
		}
	}
	if s.Wait {
		return s.await(ctx, stdio, phase)
	}
	return nil
}

// maps names the node maps of those who are meant or, for all, the global map.
func (s *Steering) maps(meant []fleet.Runner) (names []string, problems error) {
	if s.All {
		return []string{api.GlobalMapName}, nil
	}
	if len(meant) == 0 {
		return nil, s.nobody()
	}
	for _, r := range meant {
		if slices.Contains(names, r.Name) { // as by runners that share the network, and so the name, of their node
			continue
		}
		names = append(names, r.Name)
		_, unfit := statemap.NodeMapName("it", r.Name)
		if p := r.Report; unfit != nil || p != nil && p.Maps.Global != nil && p.Maps.Node == nil {
			problems = errors.Join(problems, fmt.Errorf("%s has no node map, since that cannot have the name of its host; "+
				"steer it with all others, by --all", api.Excerpt(r.Name)))
		}
	}
	return names, problems
}

// apply sets a map, or has the API server check that it could be.
func (s *Steering) apply(ctx context.Context, name string, config map[string]any, dry bool) error {
	query := url.Values{"fieldManager": {s.FieldManager}, "force": {strconv.FormatBool(s.ForceConflicts)}}
	if dry {
		query.Set("dryRun", "All")
	}
	err := s.client.Patch(ctx, s.path("configmaps/"+name), query, kube.Apply, config)
	if kube.Code(err) == http.StatusConflict {
		if owner := fleet.Owner(name, s.known); owner.SetBy != "" && owner.SetBy != s.FieldManager {
			err = fmt.Errorf("STATE is %s's, who set it %s ago%s", owner.SetBy, age(owner.SetAt), after(", because: ", owner.Reason))
		}
		err = fmt.Errorf("%w; ask there, or take it over with --force-conflicts", err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// kubectl prints the lines that do the same.
func (s *Steering) kubectl(
	out io.Writer, names []string, config func(name string) map[string]any, meant []fleet.Runner, phase api.Phase,
) error {
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
	fmt.Fprintf(out, "kubectl apply --server-side%s --field-manager=%s --force-conflicts=%t%s --filename=- <<'END'\n",
		flags, quoted(s.FieldManager), s.ForceConflicts, dry)
	for _, name := range names {
		text, err := yaml.Marshal(config(name))
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
