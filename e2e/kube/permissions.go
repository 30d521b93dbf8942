package kube

import (
	"context"
	"fmt"
	"strings"

	authzv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CheckPermissions says which rights of the shipped ClusterRole the suite lacks, all at
// once. Namespaces it makes itself, and so it needs the rest in all of them.
func (a Access) CheckPermissions(ctx context.Context) error {
	role, err := ShippedOne[*rbacv1.ClusterRole](ctx, "tests/rbac.yaml")
	if err != nil {
		return err
	}
	var missing []string
	for _, rule := range role.Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				name, subresource, _ := strings.Cut(resource, "/")
				var refused []string
				for _, verb := range rule.Verbs {
					right := &authzv1.ResourceAttributes{Verb: verb, Group: group, Resource: name, Subresource: subresource}
					review := &authzv1.SelfSubjectAccessReview{Spec: authzv1.SelfSubjectAccessReviewSpec{ResourceAttributes: right}}
					review, err := a.Admin.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
					if err != nil {
						return fmt.Errorf("ask what the suite may do: %w", err)
					}
					if !review.Status.Allowed {
						refused = append(refused, verb)
					}
				}
				if len(refused) > 0 {
					missing = append(missing, fmt.Sprintf("  %s: %s", strings.TrimSuffix(resource+"."+group, "."), strings.Join(refused, ", ")))
				}
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("the suite may not, in all namespaces:\n%s\nthe ClusterRole in runner/deploy/tests has what it needs; bind it to the user of KUBECONFIG", strings.Join(missing, "\n"))
}
