package statemap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/studioml/studio-go-runner/runner/api"
)

// serviceAccountNamespace is where the kubelet tells a pod its namespace.
const serviceAccountNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// Cluster says how to reach the API server and where the maps are.
type Cluster struct {
	Config    *rest.Config
	Namespace string
}

// FindCluster looks for a cluster the way kubectl does: the kubeconfig file
// named by the flag, KUBECONFIG, ~/.kube/config, or the pod's service account.
// It returns nil without an error if there is none. The namespace comes from
// the flag, POD_NAMESPACE, the service account or the kubeconfig, in that order;
// POD_NAMESPACE is folded into the flag by the caller.
func FindCluster(kubeconfig, namespace string) (*Cluster, error) {
	if named := os.Getenv(clientcmd.RecommendedConfigPathEnvVar); kubeconfig == "" && named != "" {
		if !slices.ContainsFunc(filepath.SplitList(named), exists) {
			return nil, fmt.Errorf("KUBECONFIG is %s, and there is no such file; correct it, or unset it to run without a cluster", api.Excerpt(named))
		}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{})
	config, err := loader.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		if os.Getenv("KUBERNETES_SERVICE_HOST") != "" {
			return nil, errors.New("this is a pod, but it has no service account token, so no ConfigMap can be read; " +
				"set automountServiceAccountToken to true, or mount a kubeconfig")
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w; see --kubeconfig", err)
	}
	if namespace == "" {
		if text, err := os.ReadFile(serviceAccountNamespace); err == nil {
			namespace = strings.TrimSpace(string(text))
		}
	}
	if namespace == "" {
		if namespace, _, err = loader.Namespace(); err != nil {
			return nil, fmt.Errorf("read namespace from kubeconfig: %w; see --namespace", err)
		}
	}
	if problems := validation.IsDNS1123Label(namespace); len(problems) > 0 {
		return nil, fmt.Errorf("namespace is %s: %s; see --namespace", api.Excerpt(namespace), problems[0])
	}
	return &Cluster{config, namespace}, nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// NodeMapName returns the name of the node map for a host name, or an error
// that says why this runner has none.
func NodeMapName(hostname string) (string, error) {
	switch {
	case hostname == "":
		return "", fmt.Errorf("HOSTNAME is not set, so there is no node map; only the global map counts")
	case hostname == api.GlobalMapName:
		return "", fmt.Errorf("HOSTNAME is the name of the global map, so there is no node map; only the global map counts")
	}
	if problems := validation.IsDNS1123Subdomain(hostname); len(problems) > 0 {
		return "", fmt.Errorf("HOSTNAME is %s, which no ConfigMap can be named, so there is no node map; only the global map counts: %s",
			api.Excerpt(hostname), problems[0])
	}
	return hostname, nil
}
