package kube

import (
	"context"
	"fmt"

	"sigs.k8s.io/e2e-framework/klient/decoder"
	"sigs.k8s.io/e2e-framework/klient/k8s"

	"github.com/studioml/studio-go-runner/runner/deploy"
)

// Shipped reads all objects of a shipped manifest. The decoder drops documents
// without kind, and finds nothing in an empty file, or in none.
func Shipped(ctx context.Context, name string, options ...decoder.DecodeOption) ([]k8s.Object, error) {
	objects, err := decoder.DecodeAllFiles(ctx, deploy.Files, name, options...)
	if err != nil {
		return nil, fmt.Errorf("read shipped manifest %s: %w", name, err)
	}
	return objects, nil
}

// ShippedOne reads the first object of a type from a shipped manifest.
func ShippedOne[T k8s.Object](ctx context.Context, name string, options ...decoder.DecodeOption) (none T, err error) {
	objects, err := Shipped(ctx, name, options...)
	if err != nil {
		return none, err
	}
	for _, object := range objects {
		if one, ok := object.(T); ok {
			return one, nil
		}
	}
	return none, fmt.Errorf("shipped manifest %s has no %T", name, none)
}
