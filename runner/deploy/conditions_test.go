package deploy_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// The right to write into the status of pods is nowhere but in its component, and there
// with a policy that is in force for the runners' account, whatever it is called.
func TestTheRightToConditionsHasItsPolicy(t *testing.T) {
	for _, name := range append([]string{"base"}, workloads...) {
		for _, object := range build(t, filesys.MakeFsOnDisk(), name) {
			if role, ok := object.(*rbacv1.Role); ok && slices.ContainsFunc(role.Rules, func(r rbacv1.PolicyRule) bool {
				return slices.ContainsFunc(r.Resources, func(resource string) bool { return strings.HasPrefix(resource, "pods") })
			}) {
				t.Errorf("%s has a right on pods", name)
			}
		}
	}
	var account *corev1.ServiceAccount
	var policy *admissionv1.ValidatingAdmissionPolicy
	var binding *admissionv1.ValidatingAdmissionPolicyBinding
	gives := map[string]rbacv1.Subject{}
	for _, object := range overlay(t, `
namespace: lab
namePrefix: a-
nameSuffix: -z
resources: [DEPLOY/job]
components: [DEPLOY/conditions]
`) {
		switch o := object.(type) {
		case *corev1.ServiceAccount:
			account = o
		case *admissionv1.ValidatingAdmissionPolicy:
			policy = o
		case *admissionv1.ValidatingAdmissionPolicyBinding:
			binding = o
		case *rbacv1.RoleBinding:
			gives[o.RoleRef.Name] = o.Subjects[0]
		}
	}
	if account == nil || policy == nil || binding == nil {
		t.Fatalf("account %v, policy %v, binding %v", account, policy, binding)
	}
	if got := gives["a-studio-go-runner-conditions-z"]; got.Name != account.Name || got.Namespace != "lab" {
		t.Errorf("the right is %+v's, want that of %s", got, account.Name)
	}
	if binding.Spec.PolicyName != policy.Name || binding.Spec.MatchResources != nil {
		t.Errorf("the binding is %+v, want that policy %s is in force everywhere", binding.Spec, policy.Name)
	}
	for _, condition := range policy.Spec.MatchConditions {
		pattern := regexp.MustCompile(`matches\('(.*)'\)`).FindStringSubmatch(condition.Expression)
		if pattern == nil {
			t.Fatalf("condition %s is %s", condition.Name, condition.Expression)
		}
		for user, want := range map[string]bool{
			"system:serviceaccount:lab:" + account.Name: true, "system:serviceaccount:lab:studio-go-runner": true,
			"system:node:worker-1": false, "system:serviceaccount:kube-system:job-controller": false, "system:serviceaccount:studio-go-runner:other": false,
		} {
			if got := regexp.MustCompile(pattern[1]).MatchString(user); got != want {
				t.Errorf("the policy is for %s: %t", user, got)
			}
		}
	}
}
