package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/studioml/studio-go-runner/e2e/controlplane"
	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/pgserver/incluster"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
	"github.com/studioml/studio-go-runner/e2e/targets/pods"
)

// played is what conformance plays on: a runner somewhere.
type played struct {
	target  targets.Target
	admin   kubernetes.Interface
	kind    scenario.Target
	adapter Adapter
	version string // of Kubernetes
	who     Implementation
	close   func(context.Context) error
}

// open makes the place: a control plane of its own, or a look at somebody's cluster.
func (c Command) open(ctx context.Context) (p *played, err error) {
	if c.Image != "" {
		p, err = c.onCluster(ctx)
	} else {
		p, err = c.onThisMachine(ctx)
	}
	if err != nil {
		return nil, err
	}
	version, err := p.admin.Discovery().ServerVersion()
	if err == nil {
		p.version = version.GitVersion
		err = p.describe(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, p.close(context.WithoutCancel(ctx)))
	}
	return p, nil
}

// onThisMachine has processes for runners.
func (c Command) onThisMachine(ctx context.Context) (*played, error) {
	plane, err := controlplane.Start(ctx, "", nil)
	if err != nil {
		return nil, err
	}
	adapter := Adapter{c.Runner}
	target, err := embedded.New(embedded.Config{Handle: plane.Handle, Adapter: adapter, NVMLLibrary: c.NVML})
	if err != nil {
		return nil, errors.Join(err, plane.Close())
	}
	return &played{target: target, admin: target.Admin, kind: "embedded", adapter: adapter, close: func(context.Context) error { return plane.Close() }}, nil
}

// left is when another run may remove what this one has left, should it be killed.
const left = 2 * time.Hour

// onCluster has pods for runners. What the adapter does, the shell of the image does.
func (c Command) onCluster(ctx context.Context) (*played, error) {
	script, err := os.ReadFile(c.Runner)
	if err != nil {
		return nil, err
	}
	adapter := Adapter{"/bin/sh", "-c", string(script), "adapter"}
	config := pods.Config{
		Name: string(c.Target), Image: c.Image, Adapter: adapter, Owned: c.Target == "kind",
		Run: kube.Run{Name: rand.String(8), Expires: time.Now().Add(left)},
	}
	target, err := pods.Connect(config)
	if err != nil {
		return nil, err
	}
	if err := target.CheckPermissions(ctx); err != nil {
		return nil, err
	}
	sweep := func(ctx context.Context) error {
		_, err := config.Run.Sweep(ctx, target.Admin)
		return err
	}
	if err := sweep(ctx); err != nil {
		return nil, err
	}
	queues := incluster.Config{Access: target.Access, Labels: config.Run.Labels(), Image: c.Postgres, ControlPlane: config.Owned}
	server, stop, err := queues.Start(ctx)
	if err != nil {
		return nil, errors.Join(err, sweep(context.WithoutCancel(ctx)))
	}
	target.Config.Server = server
	end := func(ctx context.Context) error { stop(); return sweep(ctx) }
	if err := target.Inspect(ctx); err != nil {
		return nil, errors.Join(err, end(context.WithoutCancel(ctx)))
	}
	return &played{target: target, admin: target.Admin, kind: c.Target, adapter: adapter, close: end}, nil
}

// describe asks the adapter, in a place of its own, whose runner it is.
func (p *played) describe(ctx context.Context) (err error) {
	e, err := p.target.Isolate(ctx, targets.Isolation{Name: "whose runner it is"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close(context.WithoutCancel(ctx))) }()
	ground, ok := e.(place.Ground)
	if !ok {
		return errors.New("the target runs no programs beside its runners")
	}
	asking, cancel := context.WithTimeout(ctx, engine.Stretch(describeTime))
	defer cancel()
	var text description
	if err := ground.Run(asking, nil, &text, append(p.adapter, "describe")...); err != nil {
		if asking.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("it must end within %s: %w", engine.Stretch(describeTime), err)
		}
		return fmt.Errorf("ask the adapter to describe its runner: %w", err)
	}
	if err := yaml.UnmarshalStrict(text.said, &p.who); err != nil {
		return fmt.Errorf("what the adapter describes must be organization, project, url and version as YAML: %w", err)
	}
	if p.who.Project == "" || p.who.Version == "" {
		return errors.New("what the adapter describes must have a project and a version")
	}
	for _, value := range []string{p.who.Organization, p.who.Project, p.who.URL, p.who.Version} {
		if strings.ContainsAny(value, "|<>[]\n") { // all of it comes into a table
			return fmt.Errorf("what the adapter describes must be one line without | < > [ ], and is %q", value)
		}
	}
	return nil
}

const describeTime = 30 * time.Second

// description is what an adapter says, which is short.
type description struct{ said []byte }

func (d *description) Write(data []byte) (int, error) {
	const most = 64 << 10
	if len(d.said)+len(data) > most {
		return 0, fmt.Errorf("it says more than %d bytes", most)
	}
	d.said = append(d.said, data...)
	return len(data), nil
}
