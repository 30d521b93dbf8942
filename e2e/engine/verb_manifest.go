package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Verb{Name: "manifest", Doc: "Applies YAML text as kubectl reads it. The namespace is filled in."}, Manifest.do)
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
