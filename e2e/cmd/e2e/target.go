package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/studioml/studio-go-runner/e2e/controlplane"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

type targetCommand struct {
	Name string `arg:"" optional:"" help:"embedded, kind or existing. Default: kind where Docker can be used, else embedded."`

	Image     string `env:"E2E_IMAGE" placeholder:"IMAGE" help:"existing: the image of the runners. The cluster is that of KUBECONFIG, as kubectl has it."`
	NodeImage string `env:"KIND_NODE_IMAGE" placeholder:"IMAGE" help:"kind: the image of a node. With it, Docker must answer."`
}

// Validate is called by kong.
func (c targetCommand) Validate() error {
	if c.Name != "" && !slices.Contains(scenario.Targets, scenario.Target(c.Name)) {
		return fmt.Errorf("TARGET must be one of %s, not %q", strings.Join(scenario.Words(scenario.Targets...), ", "), c.Name)
	}
	return nil
}

// Run prints the target, after a look at what it needs: what is missing is said
// before minutes of building.
func (c targetCommand) Run(ctx context.Context, k *kong.Context) error {
	var missing error
	switch c.Name {
	case "":
		missing = c.lacksDocker(ctx, k)
		c.Name = "kind"
		why := "Docker can be used; TARGET=embedded needs no Docker and is quicker"
		if missing != nil {
			c.Name, why = "embedded", missing.Error()
			missing = lacksPrograms()
		}
		fmt.Fprintf(k.Stderr, "target %s: %s\n", c.Name, why)
	case "embedded":
		missing = lacksPrograms()
	case "kind":
		missing = c.lacksDocker(ctx, k)
	case "existing":
		missing = c.lacksCluster()
	}
	if missing != nil {
		return fmt.Errorf("TARGET=%s cannot run here: %w", c.Name, missing)
	}
	fmt.Fprintln(k.Stdout, c.Name)
	return nil
}

// lacksDocker says why Docker cannot be used, nor be started by e2e/airgap.
func (c targetCommand) lacksDocker(ctx context.Context, k *kong.Context) error {
	const patience = 10 * time.Second // with a daemon that hangs
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if text, err := exec.CommandContext(asking, "docker", "version").CombinedOutput(); err == nil {
		return nil
	} else if c.NodeImage != "" {
		return fmt.Errorf("no Docker answers (%w): %s; start it (apt-get install docker.io), or unset KIND_NODE_IMAGE", err, lastLine(text))
	}
	cmd := exec.CommandContext(ctx, "go", "run", "-C", filepath.Join("e2e", "airgap"), ".", "check")
	cmd.Stderr = k.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	text, err := cmd.Output()
	if reason := strings.TrimSpace(string(text)); err == nil && reason != "" {
		err = errors.New(reason)
	}
	return err
}

// lacksPrograms says what is missing where people say that the programs are. Make has
// them downloaded or built if they do not.
func lacksPrograms() (err error) {
	if os.Getenv(controlplane.EnvAssets) != "" {
		_, err = controlplane.Programs()
	}
	return err
}

// lastLine is what a program said at its end.
func lastLine(text []byte) string {
	all := strings.TrimSpace(string(text))
	return all[strings.LastIndexByte(all, '\n')+1:]
}

// lacksCluster says why no cluster can be found, as kubectl looks for it, or what
// to run there.
func (c targetCommand) lacksCluster() error {
	files := clientcmd.NewDefaultClientConfigLoadingRules().Precedence
	there := slices.ContainsFunc(files, func(file string) bool {
		_, err := os.Stat(file)
		return err == nil
	})
	switch {
	case !there && os.Getenv("KUBERNETES_SERVICE_HOST") == "": // as in every pod
		return fmt.Errorf("no cluster is named; set KUBECONFIG to the file that says how to reach it (there is no %s)", strings.Join(files, ", "))
	case c.Image == "":
		return errors.New("no image is named; set IMAGE to one that its nodes can pull, with the runner and a shell")
	}
	return nil
}
