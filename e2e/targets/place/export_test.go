package place

import (
	"context"

	authzv1 "k8s.io/api/authorization/v1"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// ParseNote is what the journal is read with.
var ParseNote = parseNote

// Allows says whether the shipped manifests allow something.
func Allows(ctx context.Context, p scenario.Permissions, nodeMaps []string, question authzv1.ResourceAttributes) (bool, error) {
	a, err := shippedAccount(ctx, "somewhere", nodeMaps)
	if err != nil {
		return false, err
	}
	rules, err := a.rules(p)
	return allows(rules, question), err
}
