package place

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/e2e-framework/klient/k8s"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/runner/api"
)

// Admission installs the shipped policy, marks the namespace for it and waits until it
// is in force. The policy is shared by all namespaces of the cluster and stays: it does
// nothing where the mark is missing.
func (p *Place) Admission(ctx context.Context) error {
	policy, err := kube.ShippedOne[*admissionv1.ValidatingAdmissionPolicy](ctx, admissionFile)
	if err != nil {
		return err
	}
	binding, err := kube.ShippedOne[*admissionv1.ValidatingAdmissionPolicyBinding](ctx, admissionFile)
	if err != nil {
		return err
	}
	for _, object := range []k8s.Object{policy, binding} {
		if err := p.Klient.Resources().Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("install admission policy: %w", err)
		}
	}
	scope := binding.Spec.MatchResources
	if scope == nil || scope.NamespaceSelector == nil || len(scope.NamespaceSelector.MatchLabels) == 0 {
		return fmt.Errorf("%s lacks a binding that selects namespaces by label", admissionFile)
	}
	mark := scope.NamespaceSelector.MatchLabels
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": mark}})
	if err == nil {
		_, err = p.Admin.CoreV1().Namespaces().Patch(ctx, p.namespace, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		return fmt.Errorf("label namespace: %w", err)
	}
	// A bad map is refused by the policy, rather than tried, and not stored.
	probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "admission-probe"}, Data: map[string]string{api.StateKey: "probe"}}
	err = kube.Poll(ctx, func() error {
		_, err := p.Admin.CoreV1().ConfigMaps(p.namespace).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		switch {
		case err == nil:
			return errors.New("it lets a bad map pass")
		case strings.Contains(err.Error(), policy.Name):
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("wait until admission policy %s is in force: %w", policy.Name, err)
	}
	return nil
}
