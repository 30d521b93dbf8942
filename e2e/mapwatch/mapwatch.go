// Package mapwatch puts every version of the ConfigMaps of a namespace into the record
// of a scenario, as a watch of the harness's own sees them.
package mapwatch

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
	"sigs.k8s.io/e2e-framework/klient"
	"sigs.k8s.io/e2e-framework/klient/k8s/resources"

	"github.com/studioml/studio-go-runner/e2e/crowd"
	"github.com/studioml/studio-go-runner/e2e/history"
)

// Watch is that of one namespace. It leaves out the maps of a crowd.
type Watch struct {
	client    klient.Client
	namespace string
	record    *history.History
	reflector *cache.Reflector
	known     map[string]history.Map // the newest versions, by name
	synced    chan struct{}          // closed once the first list is recorded
}

// New returns the watch of a namespace for Run.
func New(client klient.Client, namespace string, record *history.History) (*Watch, error) {
	clients, err := kubernetes.NewForConfig(client.RESTConfig())
	if err != nil {
		return nil, fmt.Errorf("watch the maps: %w", err)
	}
	w := &Watch{
		client: client, namespace: namespace, record: record,
		known: make(map[string]history.Map), synced: make(chan struct{}),
	}
	begun := sync.OnceFunc(func() { close(w.synced) })
	all := cache.NewFilteredListWatchFromClient(clients.CoreV1().RESTClient(), "configmaps", namespace,
		func(o *metav1.ListOptions) { o.LabelSelector = crowd.Others })
	w.reflector = cache.NewReflectorWithOptions(all, &corev1.ConfigMap{}, cache.NewUndeltaStore(func(now []any) {
		w.add(now)
		begun()
	}, cache.MetaNamespaceKeyFunc), cache.ReflectorOptions{
		Name:    "e2e maps",
		Backoff: &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Steps: 4, Cap: time.Second},
	})
	return w, nil
}

// Run records until ctx ends, through outages of the API server.
func (w *Watch) Run(ctx context.Context) {
	// Without the reflector's logger: outages are a part of the tests, and the end of the
	// scenario is an error to it.
	w.reflector.RunWithContext(klog.NewContext(ctx, klog.Logger{}))
}

// Synced waits until the maps that were there at first are recorded.
func (w *Watch) Synced(ctx context.Context) error {
	select {
	case <-w.synced:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("watch the maps: %w", context.Cause(ctx))
	}
}

// add records what is new in all maps as they are now.
func (w *Watch) add(now []any) {
	there := make(map[string]bool)
	for _, object := range now {
		m := object.(*corev1.ConfigMap)
		there[m.Name] = true
		if w.known[m.Name].ResourceVersion != m.ResourceVersion {
			w.known[m.Name] = history.Map{Namespace: m.Namespace, Name: m.Name, ResourceVersion: m.ResourceVersion, Data: m.Data}
			w.record.Add(history.Entry{Map: new(w.known[m.Name])})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.known)) {
		if gone := w.known[name]; !there[name] {
			gone.Deleted, gone.Data = true, nil
			w.record.Add(history.Entry{Map: &gone})
			delete(w.known, name)
		}
	}
}

// CaughtUp waits until the record has what the API server has now.
func (w *Watch) CaughtUp(ctx context.Context) error {
	var all corev1.ConfigMapList
	if err := w.client.Resources(w.namespace).List(ctx, &all, resources.WithLabelSelector(crowd.Others)); err != nil {
		return err
	}
	versions := make(map[string]string)
	for _, m := range all.Items {
		versions[m.Namespace+"/"+m.Name] = m.ResourceVersion
	}
	return w.record.Wait(ctx, func(f *history.Facts) bool {
		for key, version := range versions {
			if Older(f.Maps[key].ResourceVersion, version) {
				return false
			}
		}
		for key, m := range f.Maps {
			// What others have made since the list is no news that is missing.
			if versions[key] == "" && !m.Deleted && !Older(all.ResourceVersion, m.ResourceVersion) {
				return false
			}
		}
		return true
	})
}

// Older compares resource versions of one kind, which are numbers that grow
// (KEP-5504). No version is older than any.
func Older(a, b string) bool {
	x, errA := strconv.ParseUint(a, 10, 64)
	y, errB := strconv.ParseUint(b, 10, 64)
	return errB == nil && (errA != nil || x < y)
}
