// Package mapwatch puts every version of the ConfigMaps of a namespace into the record
// of a scenario, as a watch of the harness's own sees them.
package mapwatch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/studioml/studio-go-runner/e2e/crowd"
	"github.com/studioml/studio-go-runner/e2e/history"
)

// Watch is that of one namespace. It leaves out the maps of a crowd.
type Watch struct {
	source *cache.ListWatch
	record *history.History
	known  map[string]history.Map // the newest versions, by name
}

// Begin records the maps of a namespace until ctx ends, through outages of the API
// server; then it is done. It returns when those that were there at first are recorded.
func Begin(
	ctx context.Context, done *sync.WaitGroup, config *rest.Config, namespace string, record *history.History,
) (*Watch, error) {
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("watch the maps: %w", err)
	}
	w := &Watch{record: record}
	w.source = cache.NewFilteredListWatchFromClient(clients.CoreV1().RESTClient(), "configmaps", namespace,
		func(o *metav1.ListOptions) { o.LabelSelector = crowd.Others })
	synced := make(chan struct{})
	begun := sync.OnceFunc(func() { close(synced) })
	reflector := cache.NewReflectorWithOptions(w.source, &corev1.ConfigMap{}, cache.NewUndeltaStore(func(now []any) {
		w.add(now)
		begun()
	}, cache.MetaNamespaceKeyFunc), cache.ReflectorOptions{
		Name:    "e2e maps",
		Backoff: &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Steps: 4, Cap: time.Second},
	})
	// Without the reflector's logger: outages are a part of the tests, and the end of the
	// scenario is an error to it.
	done.Go(func() { reflector.RunWithContext(klog.NewContext(ctx, klog.Logger{})) })
	select {
	case <-synced:
		return w, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("watch the maps: %w", context.Cause(ctx))
	}
}

// add records what is new in all maps as they are now.
func (w *Watch) add(now []any) {
	gone := w.known
	w.known = make(map[string]history.Map)
	for _, object := range now {
		m := object.(*corev1.ConfigMap)
		w.known[m.Name] = history.Map{Namespace: m.Namespace, Name: m.Name, ResourceVersion: m.ResourceVersion, Data: m.Data}
		if gone[m.Name].ResourceVersion != m.ResourceVersion {
			w.record.Add(history.Entry{Map: new(w.known[m.Name])})
		}
		delete(gone, m.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		m := gone[name]
		m.Deleted, m.Data = true, nil
		w.record.Add(history.Entry{Map: &m})
	}
}

// CaughtUp waits until the record has what the API server has now.
func (w *Watch) CaughtUp(ctx context.Context) error {
	list, err := w.source.ListWithContext(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	all := list.(*corev1.ConfigMapList)
	versions := make(map[string]string)
	for _, m := range all.Items {
		versions[m.Namespace+"/"+m.Name] = m.ResourceVersion
	}
	return w.record.Wait(ctx, func(s *history.Summary) bool {
		for key, version := range versions {
			if Older(s.Maps[key].ResourceVersion, version) {
				return false
			}
		}
		for key, m := range s.Maps {
			// What others have made since the list is no news that is missing.
			if versions[key] == "" && !m.Deleted && !Older(all.ResourceVersion, m.ResourceVersion) {
				return false
			}
		}
		return true
	})
}

// Older compares resource versions of one kind, which are numbers that grow
// (KEP-5504), without zeros before them. No version is older than any.
func Older(a, b string) bool { return len(a) < len(b) || len(a) == len(b) && a < b }
