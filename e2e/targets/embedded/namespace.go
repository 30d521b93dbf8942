package embedded

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// removeNamespace does what the controller-manager would do: it deletes what
// the tests may have put into the namespace, and then the namespace.
func removeNamespace(ctx context.Context, client kubernetes.Interface, name string) error {
	all, list := metav1.DeleteOptions{}, metav1.ListOptions{}
	core, rbac, namespaces := client.CoreV1(), client.RbacV1(), client.CoreV1().Namespaces()
	err := errors.Join(
		namespaces.Delete(ctx, name, all), // from here on nothing new gets in
		core.ConfigMaps(name).DeleteCollection(ctx, all, list),
		core.Secrets(name).DeleteCollection(ctx, all, list),
		core.Events(name).DeleteCollection(ctx, all, list),
		core.ServiceAccounts(name).DeleteCollection(ctx, all, list),
		rbac.RoleBindings(name).DeleteCollection(ctx, all, list),
		rbac.Roles(name).DeleteCollection(ctx, all, list))
	if err != nil {
		return fmt.Errorf("empty namespace %s: %w", name, err)
	}
	ns, err := namespaces.Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		ns.Spec.Finalizers = nil
		_, err = namespaces.Finalize(ctx, ns, metav1.UpdateOptions{})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove namespace %s: %w", name, err)
	}
	return nil
}
