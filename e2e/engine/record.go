package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/e2e-framework/klient/k8s/resources"

	crowds "github.com/studioml/studio-go-runner/e2e/crowd"
	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// source runs a part that feeds the record until the scenario ends.
func (p *play) source(name string, feed func(context.Context) error) {
	p.sources.Go(func() { p.told(name, feed(p.ctx)) })
}

// told records why a part has failed, but for the scenario's end.
func (p *play) told(name string, err error) {
	if err != nil && p.ctx.Err() == nil {
		p.record.Add(history.Entry{Trouble: fmt.Sprintf("the %s has failed: %v", name, err)})
	}
}

// watch begins to record what tasks note, and every version of every map of the
// namespace, but for those of a crowd. It outlives outages of the API server.
func (p *play) watch() error {
	client, err := kubernetes.NewForConfig(p.env.Client().RESTConfig())
	if err != nil {
		return fmt.Errorf("watch the maps: %w", err)
	}
	p.source("journal", func(ctx context.Context) error {
		return p.env.Journal(ctx, func(n targets.TaskNote) { p.record.Add(history.Entry{Note: &n}) })
	})
	known, synced := make(map[string]history.Map), make(chan struct{})
	begun := sync.OnceFunc(func() { close(synced) })
	all := cache.NewFilteredListWatchFromClient(client.CoreV1().RESTClient(), "configmaps", p.env.Namespace(),
		func(o *metav1.ListOptions) { o.LabelSelector = crowds.Others })
	reflector := cache.NewReflectorWithOptions(all, &corev1.ConfigMap{}, cache.NewUndeltaStore(func(now []any) {
		p.recordMaps(known, now)
		begun()
	}, cache.MetaNamespaceKeyFunc), cache.ReflectorOptions{
		Name:    "e2e maps",
		Backoff: &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Steps: 4, Cap: time.Second},
	})
	// Without its logger: outages are a part of the tests, and the end of the
	// scenario is an error to it.
	p.sources.Go(func() { reflector.RunWithContext(klog.NewContext(p.ctx, klog.Logger{})) })
	select {
	case <-synced:
		return nil
	case <-p.ctx.Done():
		return fmt.Errorf("watch the maps: %w", context.Cause(p.ctx))
	}
}

// recordMaps records what is new in all maps as they are now.
func (p *play) recordMaps(known map[string]history.Map, now []any) {
	there := make(map[string]bool)
	for _, object := range now {
		m := object.(*corev1.ConfigMap)
		there[m.Name] = true
		if known[m.Name].ResourceVersion != m.ResourceVersion {
			known[m.Name] = history.Map{Namespace: m.Namespace, Name: m.Name, ResourceVersion: m.ResourceVersion, Data: m.Data}
			p.record.Add(history.Entry{Map: new(known[m.Name])})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if gone := known[name]; !there[name] {
			gone.Deleted, gone.Data = true, nil
			p.record.Add(history.Entry{Map: &gone})
			delete(known, name)
		}
	}
}

// recorded waits until the harness's own watch has seen what the API server has, so
// that "seen" compares with it.
func (p *play) recorded(ctx context.Context) error {
	var all corev1.ConfigMapList
	if err := p.objects().List(ctx, &all, resources.WithLabelSelector(crowds.Others)); err != nil {
		return err
	}
	versions := make(map[string]string)
	for _, m := range all.Items {
		versions[m.Namespace+"/"+m.Name] = m.ResourceVersion
	}
	return p.record.Wait(ctx, func(f *history.Facts) bool {
		for key, version := range versions {
			if older(f.Maps[key].ResourceVersion, version) {
				return false
			}
		}
		for key, m := range f.Maps {
			// What others have made since the list is no news that is missing.
			if versions[key] == "" && !m.Deleted && !older(all.ResourceVersion, m.ResourceVersion) {
				return false
			}
		}
		return true
	})
}

// older compares resource versions of one kind, which are numbers that grow
// (KEP-5504). No version is older than any.
func older(a, b string) bool {
	x, errA := strconv.ParseUint(a, 10, 64)
	y, errB := strconv.ParseUint(b, 10, 64)
	return errB == nil && (errA != nil || x < y)
}

// teller puts what a process of a runner tells into the record.
type teller struct {
	record  *history.History
	runner  string
	process int
}

var _ targets.Sink = teller{}

func (t teller) add(e history.Entry) {
	e.Runner, e.Process = t.runner, t.process
	t.record.Add(e)
}

func (t teller) Status(s api.Status)    { t.add(history.Entry{Status: &s}) }
func (t teller) Log(line string)        { t.add(history.Entry{Log: line}) }
func (t teller) Exit(exit targets.Exit) { t.add(history.Entry{Exit: &exit}) }
func (t teller) Trouble(err error) {
	t.record.Add(history.Entry{Trouble: fmt.Sprintf("runner %s: %v", t.runner, err)})
}
