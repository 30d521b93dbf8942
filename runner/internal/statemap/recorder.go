package statemap

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/tools/cache"

	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// recorder is the store of a reflector that follows one map: what the
// reflector would cache becomes the view of the map.
type recorder struct {
	maps *Maps
	name string
	view func(*lifecycle.Snapshot) *lifecycle.View
}

var _ cache.ReflectorStore = (*recorder)(nil)

func (r *recorder) change(f func(*lifecycle.View)) {
	r.maps.update(func(s *lifecycle.Snapshot) { f(r.view(s)) })
}

// Add implements cache.ReflectorStore.
func (r *recorder) Add(object any) error {
	m, ok := object.(*corev1.ConfigMap)
	if !ok || m.Name != r.name {
		return fmt.Errorf("watch of ConfigMap %q delivered %T %v", r.name, object, object)
	}
	r.change(func(v *lifecycle.View) {
		fill(v, m)
		v.Unreadable, v.Denied = "", time.Time{}
	})
	return nil
}

// Update implements cache.ReflectorStore.
func (r *recorder) Update(object any) error { return r.Add(object) }

// Delete implements cache.ReflectorStore.
func (r *recorder) Delete(object any) error {
	var version string
	if m, ok := object.(*corev1.ConfigMap); ok {
		version = m.ResourceVersion
	}
	r.change(func(v *lifecycle.View) { gone(v, version) })
	return nil
}

// Replace implements cache.ReflectorStore; the list has the map or nothing.
func (r *recorder) Replace(list []any, version string) error {
	for _, object := range list {
		return r.Add(object)
	}
	r.change(func(v *lifecycle.View) { gone(v, version) })
	return nil
}

// Resync implements cache.ReflectorStore.
func (r *recorder) Resync() error { return nil }

// Bookmark implements cache.ReflectorBookmarkStore: nothing changed up to that
// version, which is worth knowing but no news for the lifecycle.
func (r *recorder) Bookmark(string) error { return nil }

func gone(v *lifecycle.View, version string) {
	if v.Present {
		v.Gone = time.Now()
	}
	if order, err := resourceversion.CompareResourceVersion(version, v.ResourceVersion); err != nil || order > 0 {
		v.ResourceVersion = version
	}
	v.Known, v.Present, v.Value, v.InBinaryData = true, false, "", false
	v.Unreadable, v.Denied = "", time.Time{}
}

// readable notes that the API server serves the map again.
func (r *recorder) readable() {
	r.change(func(v *lifecycle.View) { v.Unreadable, v.Denied = "", time.Time{} })
}

// unreadable notes why the map cannot be read now. What was read before stays.
func (r *recorder) unreadable(ctx context.Context, verb string, err error) {
	if ctx.Err() != nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return // ended by us, or answered by a fresh list right away
	}
	m := r.maps
	// The request's address, which differs with each try, says nothing to people.
	if address := (*url.Error)(nil); errors.As(err, &address) {
		err = address.Err
	}
	text := fmt.Sprintf("ConfigMap %q in namespace %q cannot be read: %v", r.name, m.namespace, err)
	forbidden := apierrors.IsForbidden(err)
	if forbidden {
		text = fmt.Sprintf("ConfigMap %q in namespace %q: not allowed to %s configmaps; grant get, list and watch on configmaps to the runner's service account",
			r.name, m.namespace, verb)
	}
	m.log.Debug("map unreadable", "map", r.name, "verb", verb, "error", err)
	r.change(func(v *lifecycle.View) {
		v.Unreadable = text
		switch {
		case !forbidden:
			v.Denied = time.Time{}
		case v.Denied.IsZero():
			v.Denied = time.Now()
		}
	})
}
