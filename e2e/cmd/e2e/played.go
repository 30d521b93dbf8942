package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/studioml/studio-go-runner/e2e/conformance"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded/assets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
	"github.com/studioml/studio-go-runner/e2e/targets/pods"
)

// played is what conformance plays on: a runner somewhere.
type played struct {
	target  targets.Target
	kind    scenario.Target
	version string // of Kubernetes
	who     conformance.Implementation
	close   func(context.Context) error
}

// open makes the place: a control plane of its own, or a look at somebody's cluster.
func (c playCommand) open(ctx context.Context, r streams) (*played, error) {
	if c.Image != "" {
		return c.onCluster(ctx)
	}
	who, err := describe(func() ([]byte, error) { return exec.CommandContext(ctx, c.Runner, "describe").Output() })
	if err != nil {
		return nil, err
	}
	programs, err := assets.Ensure(ctx, r.progress)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "studio-go-runner-conformance-*")
	if err != nil {
		return nil, err
	}
	plane, err := embedded.StartControlPlane(ctx, programs, dir, nil)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p := &played{kind: "embedded", who: who, close: func(context.Context) error { return errors.Join(plane.Close(), os.RemoveAll(dir)) }}
	if p.version, err = serverVersion(plane.Handle().Kubeconfig); err == nil {
		p.target, err = embedded.New(embedded.Config{Handle: plane.Handle(), Adapter: []string{c.Runner}, NVMLLibrary: c.NVML})
	}
	if err != nil {
		return nil, errors.Join(err, p.close(ctx))
	}
	return p, nil
}

// left is when another run may remove what this one has left, should it be killed.
const left = 2 * time.Hour

// onCluster has pods for runners. What the adapter does, the shell of the image does.
func (c playCommand) onCluster(ctx context.Context) (*played, error) {
	script, err := os.ReadFile(c.Runner)
	if err != nil {
		return nil, err
	}
	adapter := []string{"/bin/sh", "-c", string(script), "adapter"}
	target, err := pods.Connect(pods.Config{Image: c.Image, Storage: c.Storage,
		Adapter: adapter, Run: rand.String(8), Expires: time.Now().Add(left)})
	if err != nil {
		return nil, err
	}
	p := &played{target: target, kind: "existing", close: target.Sweep}
	if err := target.CheckPermissions(ctx); err != nil {
		return nil, err
	}
	if _, err := pods.SweepExpired(ctx, target.Admin, time.Now()); err != nil {
		return nil, err
	}
	version, err := target.Admin.Discovery().ServerVersion()
	if err == nil {
		p.version = version.GitVersion
		err = target.Inspect(ctx)
	}
	if err == nil {
		p.who, err = describeImage(ctx, target, adapter)
	}
	if err != nil {
		return nil, errors.Join(err, p.close(context.WithoutCancel(ctx)))
	}
	return p, nil
}

// describeImage asks the adapter in a place of its own.
func describeImage(ctx context.Context, target targets.Target, adapter []string) (who conformance.Implementation, err error) {
	e, err := target.Isolate(ctx, targets.Isolation{Name: "whose runner it is"})
	if err != nil {
		return who, err
	}
	defer func() { err = errors.Join(err, e.Close(context.WithoutCancel(ctx))) }()
	ground, ok := e.(place.Ground)
	if !ok {
		return who, errors.New("the target runs no programs beside its runners")
	}
	return describe(func() ([]byte, error) {
		var text bytes.Buffer
		err := ground.Run(ctx, nil, &text, append(adapter, "describe")...)
		return text.Bytes(), err
	})
}

// describe reads whose runner it is, as its adapter says.
func describe(ask func() ([]byte, error)) (who conformance.Implementation, err error) {
	text, err := ask()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return who, fmt.Errorf("ask the adapter to describe its runner: %w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	if err != nil {
		return who, fmt.Errorf("ask the adapter to describe its runner: %w", err)
	}
	if err := yaml.UnmarshalStrict(text, &who); err != nil {
		return who, fmt.Errorf("what the adapter describes must be organization, project, url and version as YAML: %w", err)
	}
	if who.Project == "" || who.Version == "" {
		return who, errors.New("what the adapter describes must have a project and a version")
	}
	return who, nil
}

func serverVersion(kubeconfig []byte) (string, error) {
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return "", err
	}
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return "", err
	}
	version, err := client.ServerVersion()
	if err != nil {
		return "", fmt.Errorf("ask for the version of the API server: %w", err)
	}
	return version.GitVersion, nil
}
