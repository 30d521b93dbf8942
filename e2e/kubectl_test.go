package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/target/embedded/assets"
)

// kubectl is the program, used in one namespace.
type kubectl struct {
	program, namespace string
}

// newKubectl finds the program: that of PATH, or the one that was built with the
// control plane.
func newKubectl(ctx context.Context, namespace string) (kubectl, error) {
	program, err := exec.LookPath("kubectl")
	if err != nil {
		dir, err := assets.Path(ctx)
		if err != nil {
			return kubectl{}, fmt.Errorf("find kubectl: %w", err)
		}
		program = filepath.Join(dir, "kubectl")
	}
	return kubectl{program, namespace}, nil
}

// try runs kubectl and returns what it prints.
func (k kubectl) try(ctx context.Context, stdin []byte, args ...string) (string, error) {
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(ctx, k.program, append([]string{"--namespace=" + k.namespace}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &problems
	if config.kubeconfig != "" {
		cmd.Env = append(os.Environ(), "KUBECONFIG="+config.kubeconfig)
	}
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, problems.String())
	}
	return out.String(), nil
}

// apply applies a directory of runner/deploy as the README says: through a
// kustomization of one's own, here with more fields as YAML text, in which $DEPLOY
// stands for runner/deploy.
func (k kubectl) apply(ctx context.Context, directory, fields string) error {
	overlay, err := os.MkdirTemp("", "studio-go-runner-e2e-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(overlay)
	deploy, err := filepath.Abs(filepath.Join("..", "runner", "deploy"))
	if err != nil {
		return err
	}
	if deploy, err = filepath.Rel(overlay, deploy); err != nil { // kustomize takes no absolute paths
		return err
	}
	text := fmt.Sprintf("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: %s\nresources: [$DEPLOY/%s]\n%s", k.namespace, directory, fields)
	text = strings.ReplaceAll(text, "$DEPLOY", deploy)
	if err := os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	_, err = k.try(ctx, nil, "apply", "-k", overlay)
	return err
}
