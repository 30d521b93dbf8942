package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/e2e-framework/klient/k8s"
	"sigs.k8s.io/e2e-framework/klient/k8s/resources"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

func init() {
	add(scenario.Term{Name: "apply", Doc: "Creates or changes maps, by subject."}, apply)
	add(scenario.Term{Name: "delete", Doc: "Deletes maps, by subject. It does not wait for finalizers."},
		func(all []scenario.MapName, ctx context.Context, p *play) error {
			return each(all, func(subject scenario.MapName) error { return p.delete(ctx, p.named(subject)) })
		})
	add(scenario.Term{Name: "manifest", Doc: "Applies YAML text as kubectl reads it. The namespace is filled in."}, Manifest.do)
	add(scenario.Term{Name: "repeat", Doc: "Applies maps in turn, again and again."}, Repeat.do)
}

// objects are those of the runners' namespace.
func (p *play) objects() *resources.Resources { return p.env.Client().Objects(p.env.Namespace()) }

// named is the ConfigMap of a subject with nothing but its name.
func (p *play) named(subject scenario.MapName) *corev1.ConfigMap {
	runner := p.scenario.Runners[string(subject)]
	name := runner.NodeMap(string(subject))
	switch {
	case subject == scenario.Global:
		name = api.GlobalMapName
	case name == "":
		name = runner.Hostname // it belongs to nobody, and may be made all the same
	}
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: p.env.Namespace()}}
}

func apply(all map[scenario.MapName]scenario.Map, ctx context.Context, p *play) error {
	return eachOf(all, func(subject scenario.MapName, m scenario.Map) error { return p.apply(ctx, subject, m) })
}

// Repeat is changes of maps that are made again and again.
type Repeat struct {
	// Times is how often.
	Times int `json:"times" jsonschema:"minimum=1,maximum=10000"`
	// Maps are applied in order, each time, by subject.
	Maps []map[scenario.MapName]scenario.Map `json:"maps"`
}

func (r Repeat) do(ctx context.Context, p *play) error {
	for n := range r.Times {
		for _, maps := range r.Maps {
			if err := apply(maps, ctx, p); err != nil {
				return fmt.Errorf("time %d of %d: %w", n+1, r.Times, err)
			}
		}
	}
	return nil
}

// apply makes a map what the scenario says, whatever it was before.
func (p *play) apply(ctx context.Context, subject scenario.MapName, m scenario.Map) (err error) {
	object := p.named(subject)
	if m.Absent {
		if err := p.delete(ctx, object); !apierrors.IsNotFound(err) {
			return err
		}
		return nil
	}
	if m.Elsewhere {
		if object.Namespace, err = p.env.Elsewhere(ctx); err != nil {
			return err
		}
	}
	object.Labels, object.Annotations, object.Finalizers, object.Data = m.Labels, m.Annotations, m.Finalizers, m.Data
	object.Immutable, object.BinaryData = new(m.Immutable), m.BinaryData
	return p.put(ctx, object)
}

// put changes an object, or creates it. Without a version it replaces any other.
func (p *play) put(ctx context.Context, object k8s.Object) error {
	return p.write(ctx, func() error {
		err := p.objects().Update(ctx, object)
		if apierrors.IsNotFound(err) {
			return p.objects().Create(ctx, object)
		}
		return err
	})
}

func (p *play) delete(ctx context.Context, object k8s.Object) error {
	return p.write(ctx, func() error { return p.objects().Delete(ctx, object) })
}

// write has the API server do something, and waits until the record has it, so that
// "seen" compares with it. It is done again where a connection turns out to be one from
// before a restart.
func (p *play) write(ctx context.Context, do func() error) error {
	stale := func(err error) bool { return utilnet.IsProbableEOF(err) || utilnet.IsConnectionReset(err) }
	if err := retry.OnError(retry.DefaultBackoff, stale, do); err != nil {
		return err
	}
	return p.maps.CaughtUp(ctx)
}

// Manifest is YAML for the API server.
type Manifest struct {
	// Text is what kubectl apply would be given.
	Text string `json:"text" jsonschema:"pattern=\\S"`
	// Refused is a part of what the API server's refusal must say; without it the
	// API server must accept.
	Refused string `json:"refused,omitempty" jsonschema:"pattern=\\S"`
}

// Check counts a refusal as something that can fail.
func (m Manifest) Check(c *scenario.Checker, _ string) {
	if m.Refused != "" {
		c.Asserts = true
	}
}

// do sends the text as kubectl does, with the types that the text has.
func (m Manifest) do(ctx context.Context, p *play) error {
	err := m.send(ctx, p)
	switch {
	case m.Refused == "":
		return err
	case err == nil:
		return fmt.Errorf("the API server accepted it, want a refusal that says %q", m.Refused)
	case !errors.As(err, new(apierrors.APIStatus)):
		return fmt.Errorf("want a refusal that says %q: %w", m.Refused, err)
	case !strings.Contains(err.Error(), m.Refused):
		return fmt.Errorf("the refusal does not say %q: %w", m.Refused, err)
	}
	return nil
}

func (m Manifest) send(ctx context.Context, p *play) error {
	documents := yaml.NewYAMLToJSONDecoder(strings.NewReader(m.Text))
	for {
		object := &unstructured.Unstructured{}
		if err := documents.Decode(object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read manifest: %w", err)
		}
		object.SetNamespace(p.env.Namespace())
		if err := p.put(ctx, object); err != nil {
			return err
		}
	}
}
