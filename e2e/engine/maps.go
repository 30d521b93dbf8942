package engine

import (
	"context"
	"encoding/base64"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/e2e-framework/klient/k8s/resources"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// mapName is the ConfigMap that a subject stands for.
func (p *play) mapName(subject scenario.MapName) string {
	if subject == scenario.Global {
		return api.GlobalMapName
	}
	if name := p.scenario.Runners[string(subject)].NodeMap(string(subject)); name != "" {
		return name
	}
	// It belongs to nobody, and may be made all the same.
	return p.scenario.Runners[string(subject)].Hostname
}

// objects are those of the runners' namespace.
func (p *play) objects() *resources.Resources { return p.env.Client().Resources(p.env.Namespace()) }

// named is the ConfigMap of a subject with nothing but its name.
func (p *play) named(subject scenario.MapName) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: p.mapName(subject), Namespace: p.env.Namespace()}}
}

// configMap is the object that a scenario's map stands for.
func (p *play) configMap(ctx context.Context, subject scenario.MapName, m scenario.Map) (*corev1.ConfigMap, error) {
	object := p.named(subject)
	if m.Elsewhere {
		var err error
		if object.Namespace, err = p.env.Elsewhere(ctx); err != nil {
			return nil, err
		}
	}
	object.Labels, object.Annotations, object.Finalizers, object.Data = m.Labels, m.Annotations, m.Finalizers, m.Data
	if m.Immutable {
		object.Immutable = new(true)
	}
	for key, value := range m.BinaryData {
		if object.BinaryData == nil {
			object.BinaryData = make(map[string][]byte)
		}
		var err error
		if object.BinaryData[key], err = base64.StdEncoding.DecodeString(string(value)); err != nil {
			return nil, fmt.Errorf("binaryData %s: %w", key, err)
		}
	}
	return object, nil
}

// recorded waits until the harness's own watch has seen what was written, so
// that "seen" compares with it. A map that had a finalizer taken away may be
// gone with that.
func (p *play) recorded(ctx context.Context, m *corev1.ConfigMap) error {
	if m.Namespace != p.env.Namespace() {
		return nil
	}
	return p.record.Wait(ctx, func(f *history.Facts) bool {
		return !older(f.Maps[m.Namespace+"/"+m.Name].ResourceVersion, m.ResourceVersion)
	})
}

// change edits a map that exists.
func (p *play) change(subject scenario.MapName, edit func(*corev1.ConfigMap)) error {
	return p.bounded(clusterBudget, func(ctx context.Context) error {
		object := p.named(subject)
		err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			if err := p.objects().Get(ctx, object.Name, object.Namespace, object); err != nil {
				return err
			}
			edit(object)
			return p.objects().Update(ctx, object)
		})
		if err != nil {
			return err
		}
		return p.recorded(ctx, object)
	})
}

// delete deletes a map; wait is for it to be gone.
func (p *play) delete(subject scenario.MapName, wait bool) error {
	return p.bounded(clusterBudget, func(ctx context.Context) error {
		object := p.named(subject)
		if err := p.objects().Delete(ctx, object); err != nil || !wait {
			return err
		}
		return p.record.Wait(ctx, func(f *history.Facts) bool { return f.Maps[object.Namespace+"/"+object.Name].Deleted })
	})
}

// apply makes a map what the scenario says, whatever it was before.
func (p *play) apply(subject scenario.MapName, m scenario.Map) error {
	if m.Absent {
		if err := p.delete(subject, true); !apierrors.IsNotFound(err) {
			return err
		}
		return nil
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
