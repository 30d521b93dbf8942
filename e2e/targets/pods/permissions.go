package pods

import (
	"context"
	"errors"
	"fmt"
	"strings"

	authzv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// needed is all that the suite does in a cluster. Namespaces it makes itself,
// and so it needs the rest in all of them; the ClusterRole of runner/deploy/tests
// has it, and what a person needs to look after the tests.
var needed = []struct {
	group, resources, verbs string
}{
	{"", "nodes", "list"},
	{"", "namespaces", "create delete list"},
	{"", "pods", "create delete deletecollection get list watch"},
	{"", "pods/exec", "create get"},
	{"", "pods/log", "get"},
	{"", "pods/proxy", "get"},
	{"", "persistentvolumeclaims", "create get list patch"},
	{"", "serviceaccounts", "create get patch"},
	// The API server lets nobody give rights away that he has not.
	{"", "configmaps", "create delete get list watch update patch"},
	{"", "events", "create patch list"},
	{"events.k8s.io", "events", "create patch"},
	// The shipped workloads, and what is applied with them.
	{"batch", "jobs", "create delete deletecollection get list patch watch"},
	{"apps", "deployments", "create get list patch watch"},
	{"apps", "deployments/scale", "get patch update"},
	{"apps", "statefulsets", "create get list patch watch"},
	{"policy", "poddisruptionbudgets", "create get patch"},
	{"networking.k8s.io", "networkpolicies", "create get patch"},
	{"", "services", "create get patch"},
	{"rbac.authorization.k8s.io", "roles", "create get list patch update"},
	{"rbac.authorization.k8s.io", "rolebindings", "create get patch"},
	{"authorization.k8s.io", "subjectaccessreviews", "create"},
}

// CheckPermissions says which rights the suite lacks, all at once.
func (t *Target) CheckPermissions(ctx context.Context) error {
	var missing []error
	for _, n := range needed {
		resource, subresource, _ := strings.Cut(n.resources, "/")
		var verbs []string
		for verb := range strings.FieldsSeq(n.verbs) {
			review, err := t.cluster.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authzv1.SelfSubjectAccessReview{
				Spec: authzv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authzv1.ResourceAttributes{
					Verb: verb, Group: n.group, Resource: resource, Subresource: subresource,
				}},
			}, metav1.CreateOptions{})
			if err != nil {
				return fmt.Errorf("ask what the suite may do: %w", err)
			}
			if !review.Status.Allowed {
				verbs = append(verbs, verb)
			}
		}
		if len(verbs) > 0 {
			name := n.resources
			if n.group != "" {
				name += "." + n.group
			}
			missing = append(missing, fmt.Errorf("  %s: %s", name, strings.Join(verbs, ", ")))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("the suite may not, in all namespaces:\n%w\nthe ClusterRole in runner/deploy/tests has what it needs; bind it to the user of KUBECONFIG", errors.Join(missing...))
}
