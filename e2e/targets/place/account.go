package place

import (
	"context"
	"fmt"
	"slices"

	authzv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
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

// Account is the service account of the runners and what gives it its rights.
type Account struct {
	admin          kubernetes.Interface
	serviceAccount *corev1.ServiceAccount
	binding        *rbacv1.RoleBinding
	role           *rbacv1.Role
	named          *rbacv1.Role // allows only the maps' names
	nodeMaps       []string
	changes        int // of permissions
}

// shippedAccount reads the shipped manifests for a namespace. The shipped list
// of names is an example; these names take its place.
func shippedAccount(ctx context.Context, admin kubernetes.Interface, namespace string, nodeMaps []string) (*Account, error) {
	a := &Account{admin: admin, nodeMaps: nodeMaps}
	for _, file := range []string{namedFile, rbacFile} {
		objects, err := Shipped(ctx, file, decoder.MutateNamespace(namespace))
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
				a.named, a.role = a.role, o // of the last file is the one for all names
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

// create puts the account into the cluster, with the permissions p. The Role comes
// before its binding: who may not bind every Role has to have what this one gives.
func (a *Account) create(ctx context.Context, p scenario.Permissions) error {
	if _, err := a.admin.CoreV1().ServiceAccounts(a.Namespace()).Create(ctx, a.serviceAccount, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create service account: %w", err)
	}
	if err := a.write(ctx, p); err != nil {
		return err
	}
	if _, err := a.admin.RbacV1().RoleBindings(a.Namespace()).Create(ctx, a.binding, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create role binding: %w", err)
	}
	return a.await(ctx)
}

// set changes the permissions and waits until they are in force.
func (a *Account) set(ctx context.Context, p scenario.Permissions) error {
	if err := a.write(ctx, p); err != nil {
		return err
	}
	return a.await(ctx)
}

// write stores a Role with the permissions p. The API server goes by it a moment
// later: so that this can be seen, each one has a right of its own as well, on a map
// that is not there.
func (a *Account) write(ctx context.Context, p scenario.Permissions) error {
	rules, err := a.rules(p)
	if err != nil {
		return err
	}
	a.changes++
	role := a.role.DeepCopy()
	role.Rules = append(slices.Clone(rules), rbacv1.PolicyRule{
		APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get"}, ResourceNames: []string{a.mark()},
	})
	roles := a.admin.RbacV1().Roles(role.Namespace)
	if _, err = roles.Update(ctx, role, metav1.UpdateOptions{}); apierrors.IsNotFound(err) {
		_, err = roles.Create(ctx, role, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("set permissions %s: %w", p, err)
	}
	return nil
}

func (a *Account) mark() string { return fmt.Sprintf("e2e-permissions-%d", a.changes) }

// await waits until the API server goes by the Role that was written last.
func (a *Account) await(ctx context.Context) error {
	if err := Poll(ctx, func() error { return a.mayGet(ctx, a.mark()) }); err != nil {
		return fmt.Errorf("wait until the permissions are in force: %w", err)
	}
	return nil
}

// mayGet asks the API server whether the runners may get a map.
func (a *Account) mayGet(ctx context.Context, name string) error {
	ns := a.Namespace()
	review, err := a.admin.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authzv1.SubjectAccessReview{Spec: authzv1.SubjectAccessReviewSpec{
		ResourceAttributes: &authzv1.ResourceAttributes{Namespace: ns, Verb: "get", Resource: "configmaps", Name: name},
		User:               "system:serviceaccount:" + ns + ":" + a.Name(),
		Groups:             []string{"system:serviceaccounts", "system:serviceaccounts:" + ns, "system:authenticated"},
	}}, metav1.CreateOptions{})
	if err == nil && !review.Status.Allowed {
		err = fmt.Errorf("not yet: %s", review.Status.Reason)
	}
	return err
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
