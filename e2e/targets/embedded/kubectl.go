package embedded

import (
	"bytes"
	"context"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/studioml/studio-go-runner/e2e/controlplane"
)

// Shell is what a person's shell needs for kubectl.
func (e *env) Shell() ([]string, error) {
	path := filepath.Join(e.dir, "admin")
	variables := []string{"KUBECONFIG=" + path}
	dir, err := e.handle.KubectlDir()
	if err != nil {
		return nil, err
	}
	if dir != "" {
		variables = append(variables, "PATH="+dir+":"+os.Getenv("PATH"))
	}
	return variables, controlplane.WriteKubeconfig(path, e.handle.Server, e.handle.CA, e.Namespace(), &api.AuthInfo{Token: e.handle.Token})
}

// Kubectl runs a line in such a shell.
func (e *env) Kubectl(ctx context.Context, line string) (string, error) {
	variables, err := e.Shell()
	if err != nil {
		return "", err
	}
	var output bytes.Buffer
	// kubectl keeps what it has discovered below HOME.
	variables = append(variables, "HOME="+e.dir)
	err = e.Run(ctx, nil, &output, append([]string{"sh", "-c", `export "$@"; kubectl ` + line, "sh"}, variables...)...)
	return output.String(), err
}
