package place

import (
	"context"
	"fmt"

	authzv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// rbacFile is the shipped manifest of the runners' account. In it the Role comes before its
// binding: who may not bind every Role has to have what this one gives.
const rbacFile = "base/rbac.yaml"

// createAccount puts the account into the cluster, with the permissions of the scenario.
func (p *Place) createAccount(ctx context.Context) error {
	objects, err := kube.Shipped(ctx, rbacFile)
	if err != nil {
		return err
	}
	for _, object := range objects {
		switch o := object.(type) {
		case *corev1.ServiceAccount:
			p.ServiceAccount, err = p.Admin.CoreV1().ServiceAccounts(p.namespace).Create(ctx, o, metav1.CreateOptions{})
		case *rbacv1.Role:
			_, err = p.Admin.RbacV1().Roles(p.namespace).Create(ctx, o, metav1.CreateOptions{})
		case *rbacv1.RoleBinding:
			o.Subjects[0].Namespace = p.namespace
			_, err = p.Admin.RbacV1().RoleBindings(p.namespace).Create(ctx, o, metav1.CreateOptions{})
		}
		if err != nil {
			return fmt.Errorf("create the account of the runners: %w", err)
		}
	}
	return p.SetPermissions(ctx, p.Isolation.Permissions)
}

// shippedRole is the Role for these permissions. The shipped list of names is an example;
// these names take its place.
func shippedRole(ctx context.Context, permissions scenario.Permissions, nodeMaps []string) (*rbacv1.Role, error) {
	file, names := "base/rbac-named.yaml", []string{api.GlobalMapName}
	switch permissions {
	case scenario.PermissionsShipped, "":
		file = rbacFile
	case scenario.PermissionsNamed:
		names = append(names, nodeMaps...)
	}
	role, err := kube.ShippedOne[*rbacv1.Role](ctx, file)
	if err != nil {
		return nil, err
	}
	if permissions == scenario.PermissionsNone {
		role.Rules = nil
	}
	for i := range role.Rules {
		if len(role.Rules[i].ResourceNames) > 0 {
			role.Rules[i].ResourceNames = names
		}
	}
	return role, nil
}

// SetPermissions changes the rights of the runners and waits until they are in force. The
// API server goes by a Role a moment after it was stored: so that this can be seen, each one
// has a right of its own as well, on a map that is not there.
func (p *Place) SetPermissions(ctx context.Context, permissions scenario.Permissions) error {
	role, err := shippedRole(ctx, permissions, p.Isolation.NodeMaps)
	if err != nil {
		return err
	}
	mark := "e2e-permissions-" + rand.String(8)
	role.Rules = append(role.Rules, rbacv1.PolicyRule{
		APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get"}, ResourceNames: []string{mark},
	})
	if _, err := p.Admin.RbacV1().Roles(p.namespace).Update(ctx, role, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("set permissions %s: %w", permissions, err)
	}
	question := &authzv1.SubjectAccessReview{Spec: authzv1.SubjectAccessReviewSpec{
		ResourceAttributes: &authzv1.ResourceAttributes{Namespace: p.namespace, Verb: "get", Resource: "configmaps", Name: mark},
		User:               "system:serviceaccount:" + p.namespace + ":" + p.ServiceAccount.Name,
	}}
	return kube.Poll(ctx, "the permissions are in force", func() error {
		review, err := p.Admin.AuthorizationV1().SubjectAccessReviews().Create(ctx, question, metav1.CreateOptions{})
		if err == nil && !review.Status.Allowed {
			err = fmt.Errorf("not yet: %s", review.Status.Reason)
		}
		return err
	})
}
