package place_test

import (
	"slices"
	"testing"

	authzv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// Who has the ClusterRole of runner/deploy/tests, and not all rights, can bind only a
// Role that is there.
func TestARoleIsMadeBeforeItIsBound(t *testing.T) {
	admin := fake.NewClientset()
	asked := 0
	admin.PrependReactor("create", "subjectaccessreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
		asked++
		return true, &authzv1.SubjectAccessReview{Status: authzv1.SubjectAccessReviewStatus{Allowed: asked%2 == 0}}, nil
	})
	p := place.Place{Access: kube.Access{Admin: admin}, Isolation: targets.Isolation{Permissions: scenario.PermissionsNamed}}
	if err := p.Make(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := p.SetPermissions(t.Context(), scenario.PermissionsNone); err != nil {
		t.Fatal(err)
	}
	if asked != 4 { // again each time, until it is allowed
		t.Errorf("the API server was asked %d times", asked)
	}
	made := func(resource string) int {
		return slices.IndexFunc(admin.Actions(), func(a clienttesting.Action) bool { return a.Matches("create", resource) })
	}
	if role, binding := made("roles"), made("rolebindings"); role < 0 || binding < role {
		t.Errorf("the Role is made in request %d, and its binding in %d", role, binding)
	}
}
