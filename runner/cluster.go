package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"path"
	"slices"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/fleet"
	"github.com/studioml/studio-go-runner/runner/internal/kube"
)

// Cluster is where the maps are. Commands embed it.
type Cluster struct {
	Kubeconfig string `env:"STUDIOML_KUBECONFIG" placeholder:"FILE" help:"How to reach the cluster. Default: KUBECONFIG, ~/.kube/config, or the pod's service account."`
	Namespace  string `short:"n" env:"POD_NAMESPACE" help:"Namespace of the ConfigMaps. Default: that of the service account, or of the kubeconfig."`
}

// Fleet is the runners of a namespace. Commands embed it.
type Fleet struct {
	Cluster  `embed:""`
	Selector string `short:"l" default:"${selector}" placeholder:"LABELS" help:"Label selector of the runners' pods (default ${default})."`

	client *kube.Client
}

// connect finds the cluster.
func (f *Fleet) connect() error {
	found, _, err := kube.FindCluster(f.Kubeconfig, f.Namespace)
	if err != nil {
		return err
	}
	if found == nil {
		return errors.New("no cluster found; see --kubeconfig")
	}
	f.Namespace = found.Namespace
	f.client, err = kube.New(found.Config)
	return err
}

// read asks for the runners once.
func (f *Fleet) read(ctx context.Context) ([]fleet.Runner, error) {
	runners, err := fleet.Read(ctx, f.client, f.Namespace, f.Selector)
	if err != nil {
		err = fmt.Errorf("read the pods and ConfigMaps of namespace %s: %w", f.Namespace, err)
	}
	return runners, err
}

// looks asks again and again, until ctx ends; an API server that does not answer is
// waited for.
func (f *Fleet) looks(ctx context.Context, errOut io.Writer) iter.Seq2[[]fleet.Runner, error] {
	return func(yield func([]fleet.Runner, error) bool) {
		for {
			asked := time.Now()
			runners, err := again(ctx, errOut, unanswered, func() ([]fleet.Runner, error) { return f.read(ctx) })
			if !yield(runners, err) || err != nil {
				return
			}
			if err := pause(ctx, asked); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// unanswered says whether an API server did not answer, or asked to be left alone.
func unanswered(err error) bool {
	code := kube.Code(err)
	return err != nil && (code == 0 || code >= http.StatusInternalServerError || code == http.StatusTooManyRequests || code == http.StatusGone)
}

// named returns the runners, and stray maps, whose names fit one of the patterns: all
// without one. A pattern that fits none is an error.
func (f *Fleet) named(runners []fleet.Runner, patterns []string) (fit []fleet.Runner, problems error) {
	if len(patterns) == 0 {
		return runners, nil
	}
	used := map[string]bool{}
	for _, r := range runners {
		for _, p := range patterns {
			if ok, _ := path.Match(p, r.Name); ok || p == r.Pod {
				if used[p] = true; !slices.ContainsFunc(fit, func(o fleet.Runner) bool { return o.Name == r.Name && o.Pod == r.Pod }) {
					fit = append(fit, r)
				}
			}
		}
	}
	var names []string
	for _, r := range runners {
		names = append(names, r.Name)
	}
	for _, p := range patterns {
		if !used[p] {
			problems = errors.Join(problems, fmt.Errorf("there is no runner %s in namespace %s%s", p, f.Namespace, api.DidYouMean(p, names)))
		}
	}
	return fit, problems
}
