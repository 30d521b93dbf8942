package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	crowds "github.com/studioml/studio-go-runner/e2e/crowd"
	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/targets"
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

// journal records what tasks note.
func (p *play) journal() {
	p.source("journal", func(ctx context.Context) error {
		return p.env.Journal(ctx, func(n targets.TaskNote) { p.record.Add(history.Entry{Note: &n}) })
	})
}

// watchMaps records every version of every map of the namespace, but for those
// of a crowd, and returns once the watch has begun. It outlives outages of the
// API server.
func (p *play) watchMaps() error {
	client, err := kubernetes.NewForConfig(p.env.Client().RESTConfig())
	if err != nil {
		return fmt.Errorf("watch the maps: %w", err)
	}
	all := client.CoreV1().ConfigMaps(p.env.Namespace())
	store := &mapRecorder{record: p.record, namespace: p.env.Namespace(), synced: make(chan struct{})}
	reflector := cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return all.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return all.Watch(ctx, o)
		},
	}, &corev1.ConfigMap{}, store, cache.ReflectorOptions{
		Name:    "e2e maps",
		Backoff: &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Steps: 4, Cap: time.Second},
	})
	// Without its logger: outages are a part of the tests, and the end of the
	// scenario is an error to it.
	p.sources.Go(func() { reflector.RunWithContext(klog.NewContext(p.ctx, klog.Logger{})) })
	return p.bounded(clusterBudget, func(ctx context.Context) error {
		select {
		case <-store.synced:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("watch the maps: %w", ctx.Err())
		}
	})
}

// mapRecorder is the store of a reflector: it keeps nothing but the record.
type mapRecorder struct {
	record    *history.History
	namespace string
	synced    chan struct{}
	known     map[string]string // versions by name, nil until the first list
}

var _ cache.ReflectorStore = (*mapRecorder)(nil)

func (r *mapRecorder) add(m history.Map) {
	if m.Deleted {
		delete(r.known, m.Name)
	} else {
		r.known[m.Name] = m.ResourceVersion
	}
	r.record.Add(history.Entry{Map: &m})
}

func (r *mapRecorder) Add(object any) error {
	if m, ok := object.(*corev1.ConfigMap); ok && !crowds.Has(m) && r.known[m.Name] != m.ResourceVersion {
		r.add(history.Map{Namespace: m.Namespace, Name: m.Name, ResourceVersion: m.ResourceVersion, Data: m.Data})
	}
	return nil
}

func (r *mapRecorder) Update(object any) error { return r.Add(object) }

func (r *mapRecorder) Delete(object any) error {
	if m, ok := object.(*corev1.ConfigMap); ok && !crowds.Has(m) {
		r.add(history.Map{Namespace: m.Namespace, Name: m.Name, ResourceVersion: m.ResourceVersion, Deleted: true})
	}
	return nil
}

// Replace records what a list says: what is there, and what no longer is. Of
// that, the version of the deletion is not known, and that of the list may be
// above any that a runner will ever see.
func (r *mapRecorder) Replace(list []any, _ string) error {
	first := r.known == nil
	if first {
		r.known = make(map[string]string)
	}
	there := make(map[string]bool)
	for _, object := range list {
		if m, ok := object.(*corev1.ConfigMap); ok {
			there[m.Name] = true
			_ = r.Add(m)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.known)) {
		if !there[name] {
			r.add(history.Map{Namespace: r.namespace, Name: name, ResourceVersion: r.known[name], Deleted: true, Missed: true})
		}
	}
	if first {
		close(r.synced)
	}
	return nil
}

func (r *mapRecorder) Resync() error { return nil }
