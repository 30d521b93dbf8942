package kube

import (
	"strings"
	"testing"

	authzv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// Whoever is bound to the shipped ClusterRole can run the suite, and hears of all
// that he lacks at once.
func TestCheckPermissions(t *testing.T) {
	client := fake.NewClientset()
	lacks := map[string]bool{}
	asked := 0
	client.PrependReactor("create", "selfsubjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authzv1.SelfSubjectAccessReview).DeepCopy()
		q := review.Spec.ResourceAttributes
		asked++
		review.Status.Allowed = !lacks[q.Verb+" "+q.Group+" "+q.Resource+" "+q.Subresource]
		return true, review, nil
	})
	target := Access{Admin: client}
	if err := target.CheckPermissions(t.Context()); err != nil || asked < 100 {
		t.Errorf("%d questions: %v", asked, err)
	}
	for _, right := range []string{"create  pods exec", "get  pods exec", "patch events.k8s.io events ", "update apps deployments scale"} {
		lacks[right] = true
	}
	err := target.CheckPermissions(t.Context())
	if err == nil {
		t.Fatal("no error without rights")
	}
	const want = `:
  pods/exec: create, get
  events.events.k8s.io: patch
  deployments/scale.apps: update
the ClusterRole`
	if !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v, want it to have%s", err, want)
	}
}
