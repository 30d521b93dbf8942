package place

import (
	"context"

	authzv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/validation"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// Allows says whether the shipped manifests allow something.
func Allows(ctx context.Context, p scenario.Permissions, nodeMaps []string, question authzv1.ResourceAttributes) (bool, error) {
	role, err := shippedRole(ctx, p, nodeMaps)
	if err != nil {
		return false, err
	}
	asked := rbacv1.PolicyRule{APIGroups: []string{question.Group}, Resources: []string{question.Resource}, Verbs: []string{question.Verb}}
	if question.Name != "" {
		asked.ResourceNames = []string{question.Name}
	}
	covered, _ := validation.Covers(role.Rules, []rbacv1.PolicyRule{asked})
	return covered, nil
}
