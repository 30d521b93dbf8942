package engine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/e2e-framework/klient/k8s"

	"github.com/studioml/studio-go-runner/e2e/crowd"
	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// applyAll does the same to several maps, in a fixed order.
func (p *play) applyAll(all map[string]scenario.Map, do func(subject string, m scenario.Map) error) error {
	for _, subject := range slices.Sorted(maps.Keys(all)) {
		if err := do(subject, all[subject]); err != nil {
			return fmt.Errorf("map of %s: %w", subject, err)
		}
	}
	return nil
}

// configMap is the object that a scenario's map stands for.
func (p *play) configMap(ctx context.Context, subject string, m scenario.Map) (*corev1.ConfigMap, error) {
	namespace := p.env.Namespace()
	if m.Elsewhere {
		var err error
		if namespace, err = p.env.Elsewhere(ctx); err != nil {
			return nil, err
		}
	}
	object := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: p.mapName(subject), Namespace: namespace, Labels: m.Labels},
		Data:       m.Data,
	}
	if m.Immutable {
		object.Immutable = new(true)
	}
	for key, value := range m.BinaryData {
		if object.BinaryData == nil {
			object.BinaryData = make(map[string][]byte)
		}
		var err error
		if object.BinaryData[key], err = base64.StdEncoding.DecodeString(value); err != nil {
			return nil, fmt.Errorf("binaryData %s: %w", key, err)
		}
	}
	return object, nil
}

// apply makes a map what the scenario says, whatever it was before.
func (p *play) apply(subject string, m scenario.Map) error {
	if m.Absent {
		return p.deleteIf(subject, true)
	}
	return p.bounded(clusterBudget, func(ctx context.Context) error {
		want, err := p.configMap(ctx, subject, m)
		if err != nil {
			return err
		}
		objects := p.env.Client().Resources(want.Namespace)
		err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			var have corev1.ConfigMap
			err := objects.Get(ctx, want.Name, want.Namespace, &have)
			want.ResourceVersion = have.ResourceVersion
			if apierrors.IsNotFound(err) {
				return objects.Create(ctx, want)
			}
			if err != nil {
				return err
			}
			return objects.Update(ctx, want)
		})
		if err != nil {
			return err
		}
		return p.recorded(ctx, want)
	})
}

// recorded waits until the harness's own watch has seen what was written, so
// that "seen" compares with it.
func (p *play) recorded(ctx context.Context, m *corev1.ConfigMap) error {
	if m.Namespace != p.env.Namespace() {
		return nil
	}
	return p.record.Wait(ctx, func(f *history.Facts) bool {
		return !older(f.Maps[m.Namespace+"/"+m.Name].ResourceVersion, m.ResourceVersion)
	})
}

func (p *play) delete(subject string) error { return p.deleteIf(subject, false) }

func (p *play) deleteIf(subject string, mayBeAbsent bool) error {
	return p.bounded(clusterBudget, func(ctx context.Context) error {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: p.mapName(subject), Namespace: p.env.Namespace()}}
		err := p.env.Client().Resources(object.Namespace).Delete(ctx, object)
		if apierrors.IsNotFound(err) && mayBeAbsent {
			return nil
		}
		if err != nil {
			return err
		}
		return p.record.Wait(ctx, func(f *history.Facts) bool { return f.Maps[object.Namespace+"/"+object.Name].Deleted })
	})
}

// replace is kubectl replace --force.
func (p *play) replace(subject string, m scenario.Map) error {
	return p.bounded(clusterBudget, func(ctx context.Context) error {
		object, err := p.configMap(ctx, subject, m)
		if err != nil {
			return err
		}
		objects := p.env.Client().Resources(object.Namespace)
		if err := objects.Delete(ctx, object); err != nil {
			return err
		}
		object.ResourceVersion = ""
		if err := objects.Create(ctx, object); err != nil {
			return err
		}
		return p.recorded(ctx, object)
	})
}

// change edits a map that exists.
func (p *play) change(subject string, edit func(*corev1.ConfigMap)) error {
	return p.bounded(clusterBudget, func(ctx context.Context) error {
		var object corev1.ConfigMap
		objects := p.env.Client().Resources(p.env.Namespace())
		err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			if err := objects.Get(ctx, p.mapName(subject), p.env.Namespace(), &object); err != nil {
				return err
			}
			edit(&object)
			return objects.Update(ctx, &object)
		})
		if err != nil {
			return err
		}
		return p.recorded(ctx, &object)
	})
}

func (p *play) removeKey(subject string) error {
	return p.change(subject, func(m *corev1.ConfigMap) { delete(m.Data, api.StateKey) })
}

func (p *play) touch(subject string) error {
	return p.change(subject, func(m *corev1.ConfigMap) {
		if m.Labels == nil {
			m.Labels = make(map[string]string)
		}
		m.Labels["touched"] = strconv.FormatInt(time.Now().UnixNano(), 10)
	})
}

// crowd makes maps that concern no runner, and goes on changing them.
func (p *play) crowd(c scenario.Crowd) error {
	all, err := crowd.Make(p.ctx, p.env.Client(), p.env.Namespace(), c.Maps)
	if err != nil {
		return err
	}
	p.source("crowd", func(ctx context.Context) error { return all.Change(ctx, time.Duration(c.Every)) })
	return nil
}

// flip changes one map again and again, at a steady pace.
func (p *play) flip(f scenario.Flip) error {
	tick := time.NewTicker(time.Duration(f.Every))
	defer tick.Stop()
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: p.mapName(f.Map), Namespace: p.env.Namespace()}}
	patch := func(state string) error {
		return p.bounded(clusterBudget, func(ctx context.Context) error {
			data, err := json.Marshal(map[string]any{"data": map[string]string{api.StateKey: state}})
			if err != nil {
				return err
			}
			return p.env.Client().Resources(object.Namespace).Patch(ctx, object, k8s.Patch{PatchType: "application/merge-patch+json", Data: data})
		})
	}
	for n := range f.Times {
		if err := patch(f.Values[n%len(f.Values)]); err != nil {
			return fmt.Errorf("change %d: %w", n+1, err)
		}
		select {
		case <-tick.C:
		case <-p.ctx.Done():
			return fmt.Errorf("after %d changes: %w", n+1, context.Cause(p.ctx))
		}
	}
	if err := patch(f.Last); err != nil {
		return err
	}
	return p.bounded(clusterBudget, func(ctx context.Context) error { return p.recorded(ctx, object) })
}
