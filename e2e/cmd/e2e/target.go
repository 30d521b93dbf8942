package main

import (
	"bytes"
	"cmp"
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
	"github.com/studioml/studio-go-runner/e2e/engine"
)

type targetCommand struct {
	Target string `arg:"" optional:"" enum:",embedded,kind,existing" default:"" help:"embedded, kind or existing. Default: kind where Docker can be used, else embedded."`

	Image     string `env:"E2E_IMAGE" placeholder:"IMAGE" help:"existing: the image of the runners. The cluster is that of KUBECONFIG, as kubectl has it."`
	NodeImage string `env:"KIND_NODE_IMAGE" placeholder:"IMAGE" help:"kind: the image of a node. With it, Docker must answer."`
}

// Run prints the target, after a look at the scenarios and at what it needs: what is
// wrong or missing is said before minutes of building.
func (c targetCommand) Run(ctx context.Context, k *kong.Context) error {
	if _, err := engine.Format.LoadDir("scenarios"); err != nil {
		return err
	}
	lacks := map[string]func() error{
		"embedded": lacksPrograms, "existing": c.lacksCluster, "kind": func() error { return c.lacksDocker(ctx, k) },
	}
	var missing error
	why := "Docker can be used; TARGET=embedded needs no Docker and is quicker"
	for _, name := range strings.Fields(cmp.Or(c.Target, "kind embedded")) {
		err := lacks[name]()
		if err == nil {
			if c.Target == "" {
				fmt.Fprintf(k.Stderr, "target %s: %s\n", name, why)
			}
			_, err := fmt.Fprintln(k.Stdout, name)
			return err // or make would run without a target
		}
		why = err.Error()
		missing = errors.Join(missing, fmt.Errorf("TARGET=%s cannot run here: %w", name, err))
	}
	return missing
}

// lacksDocker says why Docker cannot be used, nor be started by e2e/airgap.
func (c targetCommand) lacksDocker(ctx context.Context, k *kong.Context) error {
	const patience = 10 * time.Second // with a daemon that hangs
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	text, err := exec.CommandContext(asking, "docker", "version", "--format={{.Server.Version}}").CombinedOutput()
	if err == nil {
		return nil
	} else if c.NodeImage != "" {
		return fmt.Errorf("no Docker answers (%w): %s; start it (apt-get install docker.io), or unset KIND_NODE_IMAGE", err, bytes.TrimSpace(text))
	}
	cmd := exec.CommandContext(ctx, "go", "run", "-C", filepath.Join("e2e", "airgap"), ".", "check")
	cmd.Stderr = k.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	text, err = cmd.Output()
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
