// Package crowd makes ConfigMaps that concern no runner, many of them, and
// changes them.
package crowd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/e2e-framework/klient/k8s"
	"sigs.k8s.io/e2e-framework/klient/k8s/resources"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Others selects the maps that are of no crowd.
const Others = "!" + label

const (
	label    = "e2e.studioml.io/crowd"
	size     = 1024 // of the data of one, in bytes
	creators = 8    // at the same time
)

// Crowd is maps of one namespace.
type Crowd struct {
	objects   *resources.Resources
	namespace string
	maps      int
}

// Make makes so many maps.
func Make(ctx context.Context, objects *resources.Resources, namespace string, maps int) (*Crowd, error) {
	c := &Crowd{objects, namespace, maps}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(creators)
	for n := range maps {
		group.Go(func() error { return objects.Create(ctx, c.one(n)) })
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("make a crowd of %d maps: %w", maps, err)
	}
	return c, nil
}

// Change changes one after the other, until ctx ends.
func (c *Crowd) Change(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		data := fmt.Appendf(nil, `{"data": {%q: "%d"}}`, api.StateKey, n)
		err := c.objects.Patch(ctx, c.one(n%c.maps), k8s.Patch{PatchType: types.MergePatchType, Data: data})
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("change the crowd: %w", err)
		}
	}
}

// one has the key that counts, with a value that would be an error in a map
// that counts.
func (c *Crowd) one(n int) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("crowd-%d", n), Namespace: c.namespace, Labels: map[string]string{label: ""}},
		Data:       map[string]string{api.StateKey: "new", "data": strings.Repeat("x", size)},
	}
}
