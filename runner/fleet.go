package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/fleet"
	"github.com/studioml/studio-go-runner/runner/internal/kube"
	"github.com/studioml/studio-go-runner/runner/internal/statemap"
)

// Cluster is where the maps are. Commands embed it.
type Cluster struct {
	Kubeconfig string `env:"STUDIOML_KUBECONFIG" placeholder:"FILE" help:"How to reach the cluster. Default: KUBECONFIG, ~/.kube/config, or the pod's service account."`
	Namespace  string `short:"n" env:"POD_NAMESPACE" help:"Namespace of the ConfigMaps. Default: that of the service account, or of the kubeconfig."`
}

// Fleet is the runners of a namespace. Commands embed it.
type Fleet struct {
	Cluster  `embed:""`
	Context  string   `placeholder:"NAME" help:"Context of the kubeconfig. Default: its current one."`
	Selector string   `short:"l" default:"app.kubernetes.io/name=studio-go-runner" placeholder:"LABELS" help:"Label selector of the runners' pods (default ${default})."`
	Names    []string `arg:"" optional:"" name:"name" help:"Runners, by the names of their node maps, or patterns as 'worker-*'."`
	Node     string   `placeholder:"NODE" help:"The runners on a node of Kubernetes."`

	client   *kube.Client
	known    []statemap.ConfigMap // as they were read last
	answered bool                 // the API server has, so that it is worth waiting for
}

// read asks the cluster for the runners.
func (f *Fleet) read(ctx context.Context) ([]fleet.Runner, error) {
	if f.client == nil {
		client, namespace, _, err := kube.FindCluster(f.Kubeconfig, f.Context, f.Namespace)
		if err == nil && client == nil {
			err = errors.New("no cluster found; see --kubeconfig")
		}
		if err != nil {
			return nil, err
		}
		f.client, f.Namespace = client, namespace
	}
	pods, err := list[fleet.Pod](ctx, f, "pods", url.Values{"labelSelector": {f.Selector}, "limit": {"200"}})
	if err != nil {
		return nil, err
	}
	// A map of others may have a megabyte, and an answer must not get too long.
	f.known, err = list[statemap.ConfigMap](ctx, f, "configmaps", url.Values{"limit": {"8"}})
	f.answered = f.answered || err == nil
	return fleet.Runners(pods, f.known), err
}

func list[T any](ctx context.Context, f *Fleet, kind string, query url.Values) (all []T, err error) {
	for {
		var page struct {
			Metadata struct{ Continue string }
			Items    []T
		}
		if err := f.client.Get(ctx, f.path(kind), query, &page); err != nil {
			return nil, fmt.Errorf("read the %s of namespace %s: %w", kind, f.Namespace, err)
		}
		all = append(all, page.Items...)
		if page.Metadata.Continue == "" {
			return all, nil
		}
		query.Set("continue", page.Metadata.Continue)
	}
}

func (f *Fleet) path(kind string) string { return "/api/v1/namespaces/" + f.Namespace + "/" + kind }

// poll asks again and again, until look wants no more. Only the first answer of all must
// come at once: who has changed something wants to know what becomes of it.
func (f *Fleet) poll(ctx context.Context, errOut io.Writer, look func([]fleet.Runner) (last bool, err error)) error {
	expired := false
	passes := func(err error) bool {
		code := kube.Code(err) // 0 where nobody answered
		// A plugin of the kubeconfig gets new credentials once old ones are refused.
		renewed := code == http.StatusUnauthorized && !expired
		expired = expired || renewed
		later := code == http.StatusGone || code == http.StatusTooManyRequests || code >= http.StatusInternalServerError
		return f.answered && (renewed || later || code == 0)
	}
	return poll(ctx, errOut, passes, func() (bool, error) {
		runners, err := f.read(ctx)
		if err != nil {
			return false, err
		}
		expired = false
		return look(runners)
	})
}

// nobody is what to say where there is none to look at, or to wait for.
func (f *Fleet) nobody() error {
	if f.Node != "" {
		return fmt.Errorf("no runner in namespace %s is on a node %s", f.Namespace, f.Node)
	}
	return fmt.Errorf("no runner in namespace %s: runners are its pods with %s that have not ended; runner status asks one that is no pod", f.Namespace, f.Selector)
}

// pick returns the runners that are meant, all if none is named. A name that is nobody's
// is an error.
func (f *Fleet) pick(runners []fleet.Runner) (picked []fleet.Runner, problems error) {
	used, names := map[string]bool{}, []string{}
	for _, r := range runners {
		fits := len(f.Names) == 0
		for _, name := range f.Names {
			if ok, _ := path.Match(name, r.Name); ok || name == r.Pod {
				fits, used[name] = true, true
			}
		}
		if fits && r.Node == cmp.Or(f.Node, r.Node) {
			picked = append(picked, r)
		}
		names = append(names, r.Name)
	}
	for _, name := range f.Names {
		if !used[name] {
			problems = errors.Join(problems, fmt.Errorf("there is no runner %s in namespace %s%s", api.Excerpt(name), f.Namespace, api.DidYouMean(name, names)))
		}
	}
	return picked, problems
}

type State struct {
	Fleet `embed:""`
	Shown struct {
		Printing `embed:"" set:"watch=Print anew at each change"`
	} `embed:"" set:"formats=table,wide,json,yaml,name"`

	Phase []string `enum:"unknown,running,draining,suspended,terminated" placeholder:"PHASE" help:"Show only those: ${enum}."`
}

func (State) Help() string {
	return "SEEN is whether a runner has acted on the newest version of both maps. TASKS, and GPUS (in use/healthy/all), are as of its last report: " +
		"runners report each change of state, and in a drain what is left. A map that is no runner's has the phase ?."
}

// runnerViews are what is known of runners.
type runnerViews struct {
	Runners []fleet.Runner `json:"runners"`
}

func (s *State) Run(ctx context.Context, stdio stdio) error {
	if s.Shown.Watch {
		ctx = whileRead(ctx, stdio.Out)
	}
	return s.poll(ctx, stdio.Err, func(runners []fleet.Runner) (bool, error) {
		runners, unknown := s.pick(runners)
		runners = slices.DeleteFunc(runners, func(r fleet.Runner) bool {
			return len(s.Phase) > 0 && (r.Stray || !slices.Contains(s.Phase, strings.ToLower(string(r.Phase))))
		})
		if len(runners) == 0 && unknown == nil && len(s.Phase) == 0 && !s.Shown.Watch {
			complain(stdio.Err, s.nobody())
		}
		return s.Shown.show(stdio.Out, runnerViews{append([]fleet.Runner{}, runners...)}, unknown)
	})
}

func (v runnerViews) rows(t table) {
	if t.format == "name" {
		for _, r := range v.Runners {
			if !r.Stray { // which no other command takes for a runner
				t.row(r.Name)
			}
		}
		return
	}
	t.row("NAME", "STATE", "SOURCE", "PHASE", "SINCE", "TASKS", "OLDEST", "GPUS", "SEEN", "SHADOWED", "SET-BY", "SET", t.wide("POD", "NODE"), "WHY")
	for _, r := range v.Runners {
		since, tasks, oldest, gpus, seen, shadowed := "", "", "", "", map[bool]string{true: "yes", false: "no"}[r.Seen], ""
		if s := r.Report; s != nil {
			since, tasks, gpus = age(s.Since), fmt.Sprint(s.Tasks.Running+s.Tasks.Waiting), gpuCounts(s.GPUs)
			if len(s.InFlight) > 0 {
				oldest = age(s.InFlight[0].Started)
			}
		}
		if r.Shadowed != nil {
			shadowed = fmt.Sprintf("%s=%s", r.Shadowed.Source, r.Shadowed.Value)
		}
		phase := string(r.Phase)
		if r.Stray {
			phase, seen = "?", ""
		}
		t.row(r.Name, r.Effective, r.Source, phase, since, tasks, oldest, gpus, seen, shadowed, r.SetBy, age(r.SetAt),
			t.wide(r.Pod, r.Node), strings.TrimPrefix(r.Problem+after("; ", r.Reason), "; "))
	}
}

// gpuCounts says how many are in use, are healthy, and are there.
func gpuCounts(gpus []api.GPU) string {
	used, healthy := 0, 0
	for _, g := range gpus {
		if g.Task != "" {
			used++
		}
		if g.Health == api.Healthy {
			healthy++
		}
	}
	return fmt.Sprintf("%d/%d/%d", used, healthy, len(gpus))
}
