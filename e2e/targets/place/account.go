package place

import (
	"context"
	"errors"
	"fmt"
	"slices"

	authzv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/e2e-framework/klient/decoder"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// The shipped manifests.
const (
	rbacFile      = "base/rbac.yaml"
	namedFile     = "base/rbac-named.yaml"
	admissionFile = "base/admission.yaml"
)

// account is the service account of the runners and what gives it its rights.
type account struct {
	serviceAccount *corev1.ServiceAccount
	binding        *rbacv1.RoleBinding
	role           *rbacv1.Role
	named          *rbacv1.Role // allows only the maps' names
	changes        int          // of permissions
}

// shippedAccount reads the shipped manifests for a namespace.
func shippedAccount(ctx context.Context, namespace string) (a account, err error) {
	here := decoder.MutateNamespace(namespace)
	var problems [4]error
	a.serviceAccount, problems[0] = kube.ShippedOne[*corev1.ServiceAccount](ctx, rbacFile, here)
	a.binding, problems[1] = kube.ShippedOne[*rbacv1.RoleBinding](ctx, rbacFile, here)
	a.role, problems[2] = kube.ShippedOne[*rbacv1.Role](ctx, rbacFile, here)
	a.named, problems[3] = kube.ShippedOne[*rbacv1.Role](ctx, namedFile, here)
	if err := errors.Join(problems[:]...); err != nil {
		return a, err
	}
	for i := range a.binding.Subjects {
		a.binding.Subjects[i].Namespace = namespace
	}
	return a, nil
}

// rules are those of the Role for the permissions p. The shipped list of names is an
// example; these names take its place.
func (a *account) rules(p scenario.Permissions, nodeMaps []string) ([]rbacv1.PolicyRule, error) {
	names := []string{api.GlobalMapName}
	switch p {
	case scenario.PermissionsShipped, "":
		return slices.Clone(a.role.Rules), nil
	case scenario.PermissionsNone:
		return nil, nil
	case scenario.PermissionsNamed:
		names = append(names, nodeMaps...)
	case scenario.PermissionsGlobalOnly:
	default:
		return nil, fmt.Errorf("permissions must be shipped, named, global-only or none, and are %s", api.Excerpt(string(p)))
	}
	rules := slices.Clone(a.named.Rules)
	for i := range rules {
		if len(rules[i].ResourceNames) > 0 {
			rules[i].ResourceNames = names
		}
	}
	return rules, nil
}

// ServiceAccount is the name of the runners' account.
func (p *Place) ServiceAccount() string { return p.account.serviceAccount.Name }

// createAccount puts the account into the cluster. The Role comes before its binding:
// who may not bind every Role has to have what this one gives.
func (p *Place) createAccount(ctx context.Context) (err error) {
	if p.account, err = shippedAccount(ctx, p.namespace); err != nil {
		return err
	}
	if _, err := p.Admin.CoreV1().ServiceAccounts(p.namespace).Create(ctx, p.account.serviceAccount, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create service account: %w", err)
	}
	if err := p.writeRole(ctx, p.Isolation.Permissions); err != nil {
		return err
	}
	if _, err := p.Admin.RbacV1().RoleBindings(p.namespace).Create(ctx, p.account.binding, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create role binding: %w", err)
	}
	return p.awaitRole(ctx)
}

// SetPermissions changes the rights of the runners and waits until they are in force.
func (p *Place) SetPermissions(ctx context.Context, permissions scenario.Permissions) error {
	if err := p.writeRole(ctx, permissions); err != nil {
		return err
	}
	return p.awaitRole(ctx)
}

// writeRole stores a Role with these permissions. The API server goes by it a moment
// later: so that this can be seen, each one has a right of its own as well, on a map
// that is not there.
func (p *Place) writeRole(ctx context.Context, permissions scenario.Permissions) error {
	rules, err := p.account.rules(permissions, p.Isolation.NodeMaps)
	if err != nil {
		return err
	}
	p.account.changes++
	role := p.account.role.DeepCopy()
	role.Rules = append(rules, rbacv1.PolicyRule{
		APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get"}, ResourceNames: []string{p.account.mark()},
	})
	roles := p.Admin.RbacV1().Roles(p.namespace)
	if _, err = roles.Update(ctx, role, metav1.UpdateOptions{}); apierrors.IsNotFound(err) {
		_, err = roles.Create(ctx, role, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("set permissions %s: %w", permissions, err)
	}
	return nil
}

func (a *account) mark() string { return fmt.Sprintf("e2e-permissions-%d", a.changes) }

// awaitRole waits until the API server goes by the Role that was written last.
func (p *Place) awaitRole(ctx context.Context) error {
	name := "system:serviceaccount:" + p.namespace + ":" + p.ServiceAccount()
	question := &authzv1.SubjectAccessReview{Spec: authzv1.SubjectAccessReviewSpec{
		ResourceAttributes: &authzv1.ResourceAttributes{Namespace: p.namespace, Verb: "get", Resource: "configmaps", Name: p.account.mark()},
		User:               name, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + p.namespace, "system:authenticated"},
	}}
	err := kube.Poll(ctx, func() error {
		review, err := p.Admin.AuthorizationV1().SubjectAccessReviews().Create(ctx, question, metav1.CreateOptions{})
		if err == nil && !review.Status.Allowed {
			err = fmt.Errorf("not yet: %s", review.Status.Reason)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("wait until the permissions are in force: %w", err)
	}
	return nil
}
