package controlplane

import (
	"fmt"
	"os/exec"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// KubectlDir is the directory that has kubectl, beside the control plane's other
// programs, empty if it is installed on this machine.
func (h Handle) KubectlDir() (string, error) {
	if _, err := exec.LookPath("kubectl"); err == nil {
		return "", nil
	}
	if _, err := exec.LookPath(filepath.Join(h.Assets, "kubectl")); err != nil {
		return "", fmt.Errorf("kubectl is neither in PATH nor in %s; install it", h.Assets)
	}
	return h.Assets, nil
}

// WriteKubeconfig writes the file of one user.
func WriteKubeconfig(path, server string, ca []byte, namespace string, user *api.AuthInfo) error {
	const name = "embedded"
	return clientcmd.WriteToFile(api.Config{
		Clusters:       map[string]*api.Cluster{name: {Server: server, CertificateAuthorityData: ca}},
		AuthInfos:      map[string]*api.AuthInfo{name: user},
		Contexts:       map[string]*api.Context{name: {Cluster: name, AuthInfo: name, Namespace: namespace}}, // so that lines need no flags
		CurrentContext: name,
	}, path)
}
