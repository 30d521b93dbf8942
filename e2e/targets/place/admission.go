package place

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/runner/api"
)

// Admission installs the shipped policy, marks the namespace for it and waits until it
// is in force. The policy is shared by all namespaces of the cluster and stays: it does
// nothing where the mark is missing.
func (p *Place) Admission(ctx context.Context) error {
	objects, err := kube.Shipped(ctx, "base/admission.yaml")
	if err != nil {
		return err
	}
	for _, object := range objects {
		if err := p.Objects("").Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("install admission policy: %w", err)
		}
	}
	mark := []byte(`{"metadata": {"labels": {"studioml.io/check-state": "enabled"}}}`)
	_, err = p.Admin.CoreV1().Namespaces().Patch(ctx, p.namespace, types.MergePatchType, mark, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("label namespace: %w", err)
	}
	// A bad map is refused by the policy, rather than tried, and not stored.
	probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "admission-probe"}, Data: map[string]string{api.StateKey: "probe"}}
	return kube.Poll(ctx, "the admission policy is in force", func() error {
		_, err := p.Admin.CoreV1().ConfigMaps(p.namespace).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil {
			return errors.New("it lets a bad map pass")
		} else if strings.Contains(err.Error(), objects[0].GetName()) {
			return nil
		}
		return err
	})
}
