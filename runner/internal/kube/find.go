package kube

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/studioml/studio-go-runner/runner/api"
)

// serviceAccountNamespace is where the kubelet tells a pod its namespace.
const serviceAccountNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// FindCluster looks for a cluster the way kubectl does: the kubeconfig file
// named by the flag, KUBECONFIG, ~/.kube/config, or the pod's service account; of a file
// the context of that name or, without one, the current context counts.
// It returns no client and no error only where none was named and this is no pod.
// Doubt says why the file in the home is of no use, if there is one. Where is the
// namespace: from the flag, POD_NAMESPACE, the service account or the kubeconfig, in
// that order; POD_NAMESPACE is folded into the flag by the caller.
func FindCluster(kubeconfig, context, namespace string) (client *Client, where, doubt string, err error) {
	named := cmp.Or(kubeconfig, os.Getenv(clientcmd.RecommendedConfigPathEnvVar))
	inPod := os.Getenv("KUBERNETES_SERVICE_HOST") != ""
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	home := clientcmd.RecommendedHomeFile
	_, unread := os.ReadFile(home)
	atHome := !errors.Is(unread, fs.ErrNotExist)
	if named == "" && inPod && atHome && unread != nil {
		// A pod's user need not be able to enter the home that the image has.
		doubt, rules.Precedence = unread.Error(), nil
	}
	overrides := &clientcmd.ConfigOverrides{CurrentContext: context}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
	if named != "" { // then nothing else counts, not even the service account of the pod
		raw, err := rules.Load()
		if err != nil {
			return nil, "", "", fmt.Errorf("read kubeconfig: %w; see --kubeconfig", err)
		}
		loader = clientcmd.NewDefaultClientConfig(*raw, overrides)
	}
	config, err := loader.ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err) && named != "":
		return nil, "", "", fmt.Errorf("kubeconfig %s names no cluster: it is empty, or has no current-context, or there is no such file; "+
			"correct it, or unset it to run without a cluster", api.Excerpt(named))
	case clientcmd.IsEmptyConfig(err) && inPod:
		return nil, "", "", errors.New("this is a pod, but it has no service account token, so no ConfigMap can be read; " +
			"set automountServiceAccountToken to true, or mount a kubeconfig")
	case clientcmd.IsEmptyConfig(err):
		if atHome {
			doubt = home + " names no cluster: it is empty, or has no current-context"
		}
		return nil, "", doubt, nil
	case err != nil:
		return nil, "", "", fmt.Errorf("read kubeconfig: %w; see --kubeconfig%s", err, map[bool]string{true: " and --context"}[context != ""])
	}
	if namespace == "" {
		text, err := os.ReadFile(serviceAccountNamespace)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, "", "", fmt.Errorf("read the pod's namespace: %w; see --namespace", err)
		}
		namespace = strings.TrimSpace(string(text))
	}
	if namespace == "" {
		if namespace, _, err = loader.Namespace(); err != nil {
			return nil, "", "", fmt.Errorf("read namespace from kubeconfig: %w; see --namespace", err)
		}
	}
	if problems := validation.IsDNS1123Label(namespace); len(problems) > 0 {
		return nil, "", "", fmt.Errorf("namespace is %s: %s; see --namespace", api.Excerpt(namespace), problems[0])
	}
	client, err = New(config)
	return client, namespace, doubt, err
}
