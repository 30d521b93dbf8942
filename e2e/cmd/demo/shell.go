package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
)

// shell is where the kubectl lines are typed, by a person or by the demo.
type shell struct {
	kubeconfig string
	kubectl    string // directory of kubectl, empty if it is in the PATH
	namespace  string
}

// newShell writes a kubeconfig whose namespace is that of the runners, so that
// the lines need no flags.
func newShell(programs, dir string, kubeconfig []byte, namespace string) (*shell, error) {
	config, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	for _, c := range config.Contexts {
		c.Namespace = namespace
	}
	s := &shell{kubeconfig: filepath.Join(dir, "kubeconfig"), namespace: namespace}
	if err := clientcmd.WriteToFile(*config, s.kubeconfig); err != nil {
		return nil, fmt.Errorf("write kubeconfig: %w", err)
	}
	if _, err := exec.LookPath("kubectl"); err != nil {
		if _, err := os.Stat(filepath.Join(programs, "kubectl")); err == nil {
			s.kubectl = programs
		}
	}
	return s, nil
}

// exports are the lines that make another terminal ready.
func (s *shell) exports() []string {
	lines := []string{"export KUBECONFIG=" + s.kubeconfig}
	if s.kubectl != "" {
		lines = append(lines, "export PATH="+s.kubectl+":$PATH")
	}
	return lines
}

// type runs a line as a person would and returns what it printed.
func (s *shell) run(ctx context.Context, line string) (string, error) {
	command := exec.CommandContext(ctx, "sh", "-c", line)
	command.Env = append(os.Environ(), "KUBECONFIG="+s.kubeconfig)
	if s.kubectl != "" {
		command.Env = append(command.Env, "PATH="+s.kubectl+":"+os.Getenv("PATH"))
	}
	output, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("run %q: %w: %s", line, err, output)
	}
	return string(output), nil
}
