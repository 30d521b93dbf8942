// Package statemap reads the two ConfigMaps that steer a runner. It says what
// is there and what cannot be read; what that means is for lifecycle to say.
package statemap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/kube"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// Maps reads the global map and the node map of one namespace.
type Maps struct {
	client    *kube.Client
	namespace string
	node      string // name of the node map, empty for none
	log       *slog.Logger

	updates chan lifecycle.Snapshot

	mu      sync.Mutex
	current lifecycle.Snapshot
}

// NodeMapName returns the name of the node map for a host name, or an error
// that says why this runner has none; from is what the name comes from.
func NodeMapName(from, hostname string) (string, error) {
	var problem string
	switch unfit := validation.IsDNS1123Subdomain(hostname); {
	case hostname == api.GlobalMapName:
		problem = "is the name of the global map"
	case len(unfit) > 0:
		problem = fmt.Sprintf("is %s, which no ConfigMap can be named (%s)", api.Excerpt(hostname), unfit[0])
	default:
		return hostname, nil
	}
	return "", fmt.Errorf("%s %s, so there is no node map; only the global map counts", from, problem)
}

// New prepares to read the global map and, unless node is empty, the node map
// of that name. Without a client there is no cluster that has any.
func New(client *kube.Client, namespace, node string, log *slog.Logger) *Maps {
	m := &Maps{client: client, namespace: namespace, node: node, log: log, updates: make(chan lifecycle.Snapshot, 1)}
	m.current = m.empty()
	if m.current.Off {
		m.updates <- m.current
	}
	return m
}

func (m *Maps) empty() lifecycle.Snapshot {
	if m.client == nil {
		return lifecycle.Snapshot{Off: true}
	}
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
	var both sync.WaitGroup
	for _, view := range []*lifecycle.View{&m.current.Global, &m.current.Node} {
		if name := view.Name; name != "" {
			both.Go(func() { (&follower{Maps: m, name: name, view: view}).run(ctx) })
		}
	}
	both.Wait()
	return nil
}

// ReadFresh reads both maps directly, past any cache, and tries again until the
// answers are usable or ctx ends. A node map that was never readable for lack
// of rights is left out, as it is in the watched state.
func (m *Maps) ReadFresh(ctx context.Context) (lifecycle.Snapshot, error) {
	for failures := 1; ; failures++ {
		fresh, err := m.readOnce(ctx)
		if err == nil {
			return fresh, nil
		}
		select {
		case <-time.After(pause(failures)):
		case <-ctx.Done():
			return fresh, fmt.Errorf("read both maps afresh: %w", err)
		}
	}
}

func (m *Maps) readOnce(ctx context.Context) (fresh lifecycle.Snapshot, err error) {
	const limit = 5 * time.Second // one lost connection must not use up the caller's time
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	m.mu.Lock()
	known := m.current.Node
	m.mu.Unlock()
	if fresh = m.empty(); fresh.Off {
		return fresh, nil
	}
	// The namespace comes first: a map that goes with it goes later than that.
	fresh.Ending, err = m.ending(ctx)
	err = errors.Join(err, m.get(ctx, &fresh.Global))
	if m.node != "" {
		refused := m.get(ctx, &fresh.Node)
		if kube.Code(refused) == http.StatusForbidden && !known.Known {
			refused = nil
			fresh.Node.Denied = known.Denied
		}
		err = errors.Join(err, refused)
	}
	return fresh, err
}

func (m *Maps) get(ctx context.Context, v *lifecycle.View) error {
	var object ConfigMap
	switch err := m.client.Get(ctx, m.path()+"/"+v.Name, nil, &object); {
	case kube.Code(err) == http.StatusNotFound:
		v.Known = true
		return nil
	case err != nil:
		return err
	}
	fill(v, &object)
	return nil
}

// ending says whether the namespace is being deleted, or is gone. A runner that
// may not read it does not know; it then takes what happens to a map at its word.
func (m *Maps) ending(ctx context.Context) (bool, error) {
	var namespace metav1.PartialObjectMetadata
	err := m.client.Get(ctx, "/api/v1/namespaces/"+m.namespace, nil, &namespace)
	switch kube.Code(err) {
	case http.StatusForbidden:
		return false, nil
	case http.StatusNotFound:
		return true, nil
	}
	return namespace.DeletionTimestamp != nil, err
}

func (m *Maps) path() string { return "/api/v1/namespaces/" + m.namespace + "/configmaps" }

// only selects one map by name: a Role with resourceNames suffices for it, and
// the other maps of the namespace stay away.
func only(name string) url.Values { return url.Values{"fieldSelector": {"metadata.name=" + name}} }
