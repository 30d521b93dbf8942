package place

import (
	"context"
	"fmt"
	"slices"

	authzv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/component-helpers/auth/rbac/validation"
	"sigs.k8s.io/e2e-framework/klient/decoder"
	"sigs.k8s.io/e2e-framework/klient/k8s"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/deploy"
)

// The shipped manifests.
const (
	rbacFile      = "base/rbac.yaml"
	namedFile     = "base/rbac-named.yaml"
	admissionFile = "base/admission.yaml"
)

// Account is the service account of the runners and what gives it its rights.
type Account struct {
	serviceAccount *corev1.ServiceAccount
	binding        *rbacv1.RoleBinding
	role           *rbacv1.Role
	named          *rbacv1.Role // allows only the maps' names
	nodeMaps       []string
}

// shippedAccount reads the shipped manifests for a namespace. The shipped list
// of names is an example; these names take its place.
func shippedAccount(ctx context.Context, namespace string, nodeMaps []string) (*Account, error) {
	a := &Account{nodeMaps: nodeMaps}
	for _, name := range []string{rbacFile, namedFile} {
		objects, err := Shipped(ctx, name, decoder.MutateNamespace(namespace))
		if err != nil {
			return nil, err
		}
		for _, object := range objects {
			switch o := object.(type) {
			case *corev1.ServiceAccount:
				a.serviceAccount = o
			case *rbacv1.RoleBinding:
				a.binding = o
			case *rbacv1.Role:
				if name == namedFile {
					a.named = o
				} else {
					a.role = o
				}
			default:
				return nil, fmt.Errorf("%s has a %T, which the tests do not know", name, object)
			}
		}
	}
	if a.serviceAccount == nil || a.binding == nil || a.role == nil || a.named == nil {
		return nil, fmt.Errorf("%s and %s lack a ServiceAccount, Role or RoleBinding", rbacFile, namedFile)
	}
	for i := range a.binding.Subjects {
		a.binding.Subjects[i].Namespace = namespace
	}
	return a, nil
}

// Name is the name of the service account.
func (a *Account) Name() string { return a.serviceAccount.Name }

// Namespace is where it is.
func (a *Account) Namespace() string { return a.serviceAccount.Namespace }

// Renew makes the service account anew: its tokens are for one that is gone.
func (a *Account) Renew(ctx context.Context, client kubernetes.Interface) error {
	accounts := client.CoreV1().ServiceAccounts(a.Namespace())
	if err := accounts.Delete(ctx, a.Name(), metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("delete service account: %w", err)
	}
	if _, err := accounts.Create(ctx, a.serviceAccount, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create service account: %w", err)
	}
	return nil
}

// Shipped reads all objects of a shipped manifest. The decoder drops documents
// without kind, and finds nothing in an empty file.
func Shipped(ctx context.Context, name string, options ...decoder.DecodeOption) ([]k8s.Object, error) {
	file, err := deploy.Files.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read shipped manifest: %w", err)
	}
	defer file.Close()
	objects, err := decoder.DecodeAll(ctx, file, options...)
	if err != nil {
		return nil, fmt.Errorf("read shipped manifest %s: %w", name, err)
	}
	return objects, nil
}

// create puts the account into the cluster, with the permissions p.
func (a *Account) create(ctx context.Context, client kubernetes.Interface, p scenario.Permissions) error {
	rules, err := a.rules(p)
	if err != nil {
		return err
	}
	role := a.role.DeepCopy()
	role.Rules = rules
	ns := role.Namespace
	if _, err := client.CoreV1().ServiceAccounts(ns).Create(ctx, a.serviceAccount, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create service account: %w", err)
	}
	if _, err := client.RbacV1().Roles(ns).Create(ctx, role, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create role: %w", err)
	}
	if _, err := client.RbacV1().RoleBindings(ns).Create(ctx, a.binding, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create role binding: %w", err)
	}
	return a.awaitRules(ctx, client, rules)
}

// set changes the permissions and waits until they are in force.
func (a *Account) set(ctx context.Context, client kubernetes.Interface, p scenario.Permissions) error {
	rules, err := a.rules(p)
	if err != nil {
		return err
	}
	role := a.role.DeepCopy()
	role.Rules = rules
	if _, err := client.RbacV1().Roles(role.Namespace).Update(ctx, role, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("update role: %w", err)
	}
	return a.awaitRules(ctx, client, rules)
}

// rules are those of the Role for the permissions p.
func (a *Account) rules(p scenario.Permissions) ([]rbacv1.PolicyRule, error) {
	switch p {
	case scenario.PermissionsShipped, "":
		return a.role.Rules, nil
	case scenario.PermissionsNamed:
		return withNames(a.named.Rules, append([]string{api.GlobalMapName}, a.nodeMaps...)), nil
	case scenario.PermissionsGlobalOnly:
		return withNames(a.named.Rules, []string{api.GlobalMapName}), nil
	case scenario.PermissionsNone:
		return nil, nil
	}
	return nil, fmt.Errorf("permissions must be shipped, named, global-only or none, and are %s", api.Excerpt(string(p)))
}

// withNames replaces the names of the rules that have some.
func withNames(rules []rbacv1.PolicyRule, names []string) []rbacv1.PolicyRule {
	rules = slices.Clone(rules)
	for i := range rules {
		if len(rules[i].ResourceNames) > 0 {
			rules[i].ResourceNames = names
		}
	}
	return rules
}

// awaitRules waits until the API server decides as the rules say. It learns of
// a changed Role a moment after it has stored it.
func (a *Account) awaitRules(ctx context.Context, client kubernetes.Interface, rules []rbacv1.PolicyRule) error {
	for _, question := range a.questions() {
		want := allows(rules, question)
		err := Poll(ctx, func() error {
			got, err := a.ask(ctx, client, question)
			if err == nil && got != want {
				err = fmt.Errorf("it is %t", got)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("wait until permission to %s %s %s is %t: %w", question.Verb, question.Resource, question.Name, want, err)
		}
	}
	return nil
}

// questions are all that distinguishes the sets of permissions.
func (a *Account) questions() []authzv1.ResourceAttributes {
	questions := []authzv1.ResourceAttributes{
		{Verb: "list", Resource: "configmaps"},
		{Verb: "create", Resource: "events"},
		{Verb: "create", Resource: "events", Group: "events.k8s.io"},
	}
	for _, name := range append([]string{api.GlobalMapName}, a.nodeMaps...) {
		for _, verb := range []string{"get", "list", "watch"} {
			questions = append(questions, authzv1.ResourceAttributes{Verb: verb, Resource: "configmaps", Name: name})
		}
	}
	return questions
}

// allows is what the rules say about a question.
func allows(rules []rbacv1.PolicyRule, q authzv1.ResourceAttributes) bool {
	asked := rbacv1.PolicyRule{APIGroups: []string{q.Group}, Resources: []string{q.Resource}, Verbs: []string{q.Verb}}
	if q.Name != "" {
		asked.ResourceNames = []string{q.Name}
	}
	covered, _ := validation.Covers(rules, []rbacv1.PolicyRule{asked})
	return covered
}

// ask asks the API server whether the runners may do something.
func (a *Account) ask(ctx context.Context, client kubernetes.Interface, question authzv1.ResourceAttributes) (bool, error) {
	ns := a.serviceAccount.Namespace
	question.Namespace = ns
	review := &authzv1.SubjectAccessReview{Spec: authzv1.SubjectAccessReviewSpec{
		ResourceAttributes: &question,
		User:               "system:serviceaccount:" + ns + ":" + a.serviceAccount.Name,
		Groups:             []string{"system:serviceaccounts", "system:serviceaccounts:" + ns, "system:authenticated"},
	}}
	review, err := client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return review.Status.Allowed, nil
}
