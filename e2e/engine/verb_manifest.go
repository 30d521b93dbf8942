package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/yaml"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Verb{Name: "manifest", Doc: "Applies YAML text as kubectl reads it. The namespace is filled in."}, manifest.do)
}

type manifest struct {
	// Text is what kubectl apply would be given.
	Text string `json:"text" jsonschema:"minLength=1"`
	// Refused is a part of what the API server's refusal must say; without it the
	// API server must accept.
	Refused string `json:"refused,omitempty" jsonschema:"minLength=1"`
}

func (m manifest) String() string { return "" }

// Check counts a refusal as something that can fail.
func (m manifest) Check(c *scenario.Checker, _ string) {
	if m.Refused != "" {
		c.Asserts()
	}
}

// do sends the text as kubectl does, with the types that the text has.
func (m manifest) do(p *play) error {
	objects, err := documents(m.Text)
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	for _, object := range objects {
		object.SetNamespace(p.env.Namespace())
		if err = p.bounded(clusterBudget, func(ctx context.Context) error { return p.send(ctx, object) }); err != nil {
			break
		}
	}
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

// documents reads the objects in YAML text.
func documents(text string) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	reader := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		text, err := yaml.YAMLToJSON(document)
		if err != nil {
			return nil, err
		}
		if string(text) == "null" {
			continue // nothing but comments
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
			return nil, err
		}
		all = append(all, object)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no object in it")
	}
	return all, nil
}

// send creates an object, or makes it what it says.
func (p *play) send(ctx context.Context, object *unstructured.Unstructured) error {
	objects := p.env.Client().Resources(object.GetNamespace())
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		have := &unstructured.Unstructured{}
		have.SetGroupVersionKind(object.GroupVersionKind())
		err := objects.Get(ctx, object.GetName(), object.GetNamespace(), have)
		if apierrors.IsNotFound(err) {
			return objects.Create(ctx, object)
		}
		if err != nil {
			return err
		}
		object.SetResourceVersion(have.GetResourceVersion())
		return objects.Update(ctx, object)
	})
	if err != nil || object.GetKind() != "ConfigMap" {
		return err
	}
	return p.recorded(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: object.GetName(), Namespace: object.GetNamespace(), ResourceVersion: object.GetResourceVersion(),
	}})
}
