package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"

	authnv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// removeNamespace does what the controller-manager would do: it deletes what
// the tests may have put into the namespace, and then the namespace.
func removeNamespace(ctx context.Context, client kubernetes.Interface, name string) error {
	all, list := metav1.DeleteOptions{}, metav1.ListOptions{}
	core, rbac, namespaces := client.CoreV1(), client.RbacV1(), client.CoreV1().Namespaces()
	err := errors.Join(
		namespaces.Delete(ctx, name, all), // from here on nothing new gets in
		core.ConfigMaps(name).DeleteCollection(ctx, all, list),
		core.Secrets(name).DeleteCollection(ctx, all, list),
		core.Events(name).DeleteCollection(ctx, all, list),
		core.ServiceAccounts(name).DeleteCollection(ctx, all, list),
		rbac.RoleBindings(name).DeleteCollection(ctx, all, list),
		rbac.Roles(name).DeleteCollection(ctx, all, list))
	if err != nil {
		return fmt.Errorf("empty namespace %s: %w", name, err)
	}
	ns, err := namespaces.Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		ns.Spec.Finalizers = nil
		_, err = namespaces.Finalize(ctx, ns, metav1.UpdateOptions{})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove namespace %s: %w", name, err)
	}
	return nil
}

// writeKubeconfig writes the file that runners use: a token of the service
// account, and address instead of the API server's own one if it is set.
func writeKubeconfig(ctx context.Context, client kubernetes.Interface, config *rest.Config, namespace, account, address, path string) error {
	// Longer than any test run; nobody renews it.
	request := &authnv1.TokenRequest{Spec: authnv1.TokenRequestSpec{ExpirationSeconds: new(int64(24 * 60 * 60))}}
	token, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("get token of service account %s: %w", account, err)
	}
	cluster := &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	if address != "" {
		cluster.Server = "https://" + address
	}
	kubeconfig := clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"embedded": cluster},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{account: {Token: token.Status.Token}},
		Contexts:       map[string]*clientcmdapi.Context{"runner": {Cluster: "embedded", AuthInfo: account, Namespace: namespace}},
		CurrentContext: "runner",
	}
	data, err := clientcmd.Write(kubeconfig)
	if err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}
