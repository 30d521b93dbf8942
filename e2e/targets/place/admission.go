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
	"k8s.io/client-go/kubernetes"

	"github.com/studioml/studio-go-runner/runner/api"
)

// installAdmission installs the shipped policy, marks the namespace for it and
// waits until it is in force. The policy is shared by all namespaces of the
// cluster and stays: it does nothing where the mark is missing.
func installAdmission(ctx context.Context, client kubernetes.Interface, namespace string) error {
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
			_, err = client.AdmissionregistrationV1().ValidatingAdmissionPolicies().Create(ctx, o, metav1.CreateOptions{})
		case *admissionv1.ValidatingAdmissionPolicyBinding:
			if r := o.Spec.MatchResources; r != nil && r.NamespaceSelector != nil {
				mark = r.NamespaceSelector.MatchLabels
			}
			_, err = client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Create(ctx, o, metav1.CreateOptions{})
		default:
			return fmt.Errorf("%s has a %T, which the tests do not know", admissionFile, object)
		}
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("install admission policy: %w", err)
		}
	}
	if policy == "" || len(mark) == 0 {
		return fmt.Errorf("%s lacks a policy, or a binding that selects namespaces by label", admissionFile)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": mark}})
	if err == nil {
		_, err = client.CoreV1().Namespaces().Patch(ctx, namespace, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		return fmt.Errorf("label namespace: %w", err)
	}
	return awaitAdmission(ctx, client, namespace, policy)
}

// awaitAdmission tries to create a bad map, without storing it, until the
// policy refuses it.
func awaitAdmission(ctx context.Context, client kubernetes.Interface, namespace, policy string) error {
	probe := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "admission-probe"},
		Data:       map[string]string{api.StateKey: "probe"},
	}
	err := Poll(ctx, func() error {
		_, err := client.CoreV1().ConfigMaps(namespace).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil {
			return errors.New("it lets a bad map pass")
		}
		if strings.Contains(err.Error(), policy) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("wait until admission policy %s is in force: %w", policy, err)
	}
	return nil
}
