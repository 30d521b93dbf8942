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

	"github.com/studioml/studio-go-runner/runner/api"
)

// Admission installs the shipped policy, marks the namespace for it and waits until it
// is in force. The policy is shared by all namespaces of the cluster and stays: it does
// nothing where the mark is missing.
func (p *Place) Admission(ctx context.Context) error {
	objects, err := Shipped(ctx, admissionFile)
	if err != nil {
		return err
	}
	var policy string
	var mark map[string]string // the labels that the binding asks a namespace for
	for _, object := range objects {
		switch o := object.(type) {
		case *admissionv1.ValidatingAdmissionPolicy:
			policy = o.Name
		case *admissionv1.ValidatingAdmissionPolicyBinding:
			if r := o.Spec.MatchResources; r != nil && r.NamespaceSelector != nil {
				mark = r.NamespaceSelector.MatchLabels
			}
		}
		if err := p.Klient.Resources().Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("install admission policy: %w", err)
		}
	}
	if policy == "" || len(mark) == 0 {
		return fmt.Errorf("%s lacks a policy, or a binding that selects namespaces by label", admissionFile)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": mark}})
	if err == nil {
		_, err = p.Admin.CoreV1().Namespaces().Patch(ctx, p.namespace, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		return fmt.Errorf("label namespace: %w", err)
	}
	// A bad map is refused by the policy, rather than tried, and not stored.
	probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "admission-probe"}, Data: map[string]string{api.StateKey: "probe"}}
	err = Poll(ctx, func() error {
		_, err := p.Admin.CoreV1().ConfigMaps(p.namespace).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		switch {
		case err == nil:
			return errors.New("it lets a bad map pass")
		case strings.Contains(err.Error(), policy):
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("wait until admission policy %s is in force: %w", policy, err)
	}
	return nil
}
