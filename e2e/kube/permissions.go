package kube

import (
	"context"
	"fmt"
	"strings"

	authzv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testsFile has the ClusterRole of the tests: namespaces they make themselves,
// and so they need the rest in all of them.
const testsFile = "tests/rbac.yaml"

// CheckPermissions says which rights of the shipped ClusterRole the suite lacks,
// all at once.
func (a Access) CheckPermissions(ctx context.Context) error {
	role, err := ShippedOne[*rbacv1.ClusterRole](ctx, testsFile)
	if err != nil {
		return err
	}
	var missing []string
	for _, rule := range role.Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				verbs, err := a.refused(ctx, group, resource, rule.Verbs)
				if err != nil {
					return fmt.Errorf("ask what the suite may do: %w", err)
				}
				if len(verbs) > 0 {
					missing = append(missing, fmt.Sprintf("  %s: %s", strings.TrimSuffix(resource+"."+group, "."), strings.Join(verbs, ", ")))
				}
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("the suite may not, in all namespaces:\n%s\nthe ClusterRole in runner/deploy/tests has what it needs; bind it to the user of KUBECONFIG", strings.Join(missing, "\n"))
}

// refused returns those of the verbs that the suite may not use.
func (a Access) refused(ctx context.Context, group, resource string, verbs []string) (refused []string, err error) {
	name, subresource, _ := strings.Cut(resource, "/")
	for _, verb := range verbs {
		review := &authzv1.SelfSubjectAccessReview{Spec: authzv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authzv1.ResourceAttributes{
			Verb: verb, Group: group, Resource: name, Subresource: subresource,
		}}}
		review, err := a.Admin.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return nil, err
		}
		if !review.Status.Allowed {
			refused = append(refused, verb)
		}
	}
	return refused, nil
}
