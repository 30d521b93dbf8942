// Package statemap reads the two ConfigMaps that steer a runner. It says what
// is there and what cannot be read; what that means is for lifecycle to say.
package statemap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// Maps reads the global map and the node map of one namespace.
type Maps struct {
	client    typedcorev1.ConfigMapInterface
	namespace string
	node      string // name of the node map, empty for none
	log       *slog.Logger

	updates chan lifecycle.Snapshot

	mu      sync.Mutex
	current lifecycle.Snapshot
}

// New prepares to read the global map and, unless node is empty, the node map
// of that name.
func New(client typedcorev1.ConfigMapsGetter, namespace, node string, log *slog.Logger) *Maps {
	m := &Maps{
		client:    client.ConfigMaps(namespace),
		namespace: namespace,
		node:      node,
		log:       log,
		updates:   make(chan lifecycle.Snapshot, 1),
	}
	m.current = m.empty()
	return m
}

func (m *Maps) empty() lifecycle.Snapshot {
	return lifecycle.Snapshot{
		Namespace: m.namespace,
		Global:    lifecycle.View{Name: api.GlobalMapName},
		Node:      lifecycle.View{Name: m.node},
	}
}

// Updates carries the newest snapshot. A snapshot that was not taken yet is
// replaced by a newer one, never the other way round.
func (m *Maps) Updates() <-chan lifecycle.Snapshot { return m.updates }

// Run watches the maps until ctx ends.
func (m *Maps) Run(ctx context.Context) error {
	done := make(chan struct{})
	if m.node == "" {
		close(done)
	} else {
		go func() {
			defer close(done)
			m.watch(ctx, m.node, func(s *lifecycle.Snapshot) *lifecycle.View { return &s.Node })
		}()
	}
	m.watch(ctx, api.GlobalMapName, func(s *lifecycle.Snapshot) *lifecycle.View { return &s.Global })
	<-done
	return nil
}

// update changes the current snapshot and hands it on.
func (m *Maps) update(change func(*lifecycle.Snapshot)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.current)
	// Nobody else sends, so there is room once the old snapshot is out.
	select {
	case <-m.updates:
	default:
	}
	m.updates <- m.current
}

// read returns the current snapshot.
func (m *Maps) read() lifecycle.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current
}

// watch follows one map by name. A field selector makes a Role with
// resourceNames sufficient, and keeps the other maps of the namespace away.
func (m *Maps) watch(ctx context.Context, name string, view func(*lifecycle.Snapshot) *lifecycle.View) {
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	recorder := &recorder{maps: m, name: name, view: view}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			list, err := m.client.List(ctx, o)
			if err != nil {
				recorder.unreadable(ctx, "list", err)
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			w, err := m.client.Watch(ctx, o)
			if err != nil {
				recorder.unreadable(ctx, "watch", err)
			} else {
				recorder.readable()
			}
			return w, err
		},
	}
	reflector := cache.NewReflectorWithOptions(lw, &corev1.ConfigMap{}, recorder, cache.ReflectorOptions{
		Name: "statemap " + name,
		// A fleet that comes back after an outage must not come back all at
		// once, but an operator who waits for it should not wait half a minute
		// either, which is client-go's own limit.
		Backoff: &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 6, Cap: 5 * time.Second},
	})
	reflector.RunWithContext(ctx)
}

// Fresh reads both maps directly, past any cache, and tries again until the
// answers are usable or ctx ends. A node map that was never readable for lack
// of rights is left out, as it is in the watched state.
func (m *Maps) Fresh(ctx context.Context) (lifecycle.Snapshot, error) {
	const pause = time.Second
	var fresh lifecycle.Snapshot
	var last error
	err := wait.PollUntilContextCancel(ctx, pause, true, func(ctx context.Context) (bool, error) {
		known := m.read()
		fresh = m.empty()
		last = m.get(ctx, &fresh.Global)
		if m.node != "" {
			err := m.get(ctx, &fresh.Node)
			if apierrors.IsForbidden(err) && !known.Node.Known {
				err = nil
				fresh.Node.Denied = known.Node.Denied
			}
			last = errors.Join(last, err)
		}
		return last == nil, nil
	})
	if err != nil {
		return fresh, fmt.Errorf("read both maps afresh: %w", cmp.Or(last, err))
	}
	return fresh, nil
}

func (m *Maps) get(ctx context.Context, v *lifecycle.View) error {
	const limit = 5 * time.Second // one lost connection must not use up the caller's time
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	object, err := m.client.Get(ctx, v.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		v.Known = true
		return nil
	}
	if err != nil {
		return err
	}
	fill(v, object)
	return nil
}

// fill copies what counts of a map into its view.
func fill(v *lifecycle.View, object *corev1.ConfigMap) {
	v.Known, v.Present = true, true
	v.Value = object.Data[api.StateKey]
	_, v.InBinaryData = object.BinaryData[api.StateKey]
	v.ResourceVersion = object.ResourceVersion
}
