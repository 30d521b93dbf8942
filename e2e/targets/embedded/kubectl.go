package embedded

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/studioml/studio-go-runner/e2e/program"
)

// kubectlDir is the directory that has kubectl, beside the control plane's other
// programs, empty if it is installed on this machine.
func kubectlDir(assets string) (string, error) {
	if _, err := exec.LookPath("kubectl"); err == nil {
		return "", nil
	}
	if _, err := exec.LookPath(filepath.Join(assets, "kubectl")); err != nil {
		return "", fmt.Errorf("kubectl is neither in PATH nor in %s; install it", assets)
	}
	return assets, nil
}

// writeKubeconfig writes the file of one user.
func writeKubeconfig(path, server string, ca []byte, namespace string, user *api.AuthInfo) error {
	const name = "embedded"
	return clientcmd.WriteToFile(api.Config{
		Clusters:       map[string]*api.Cluster{name: {Server: server, CertificateAuthorityData: ca}},
		AuthInfos:      map[string]*api.AuthInfo{name: user},
		Contexts:       map[string]*api.Context{name: {Cluster: name, AuthInfo: name, Namespace: namespace}}, // so that lines need no flags
		CurrentContext: name,
	}, path)
}

// Shell is what a person's shell needs for kubectl.
func (e *env) Shell() ([]string, error) {
	path := filepath.Join(e.dir, "admin")
	variables := []string{"KUBECONFIG=" + path}
	dir, err := kubectlDir(e.config.Assets)
	if err != nil {
		return nil, err
	}
	if dir != "" {
		variables = append(variables, "PATH="+dir+":"+os.Getenv("PATH"))
	}
	return variables, writeKubeconfig(path, e.config.Server, e.config.CA, e.Namespace(), &api.AuthInfo{Token: e.config.Token})
}

// Kubectl runs a line in such a shell.
func (e *env) Kubectl(ctx context.Context, line string) (string, error) {
	variables, err := e.Shell()
	if err != nil {
		return "", err
	}
	var output bytes.Buffer
	// kubectl keeps what it has discovered below HOME.
	err = program.Run(ctx, append(variables, "HOME="+e.dir), nil, &output, "sh", "-c", "kubectl "+line)
	return output.String(), err
}
