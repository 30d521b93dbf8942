package embedded

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/e2e-framework/klient"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

const (
	// endGrace is how long runners may take to end when an Env is closed. They
	// have nothing to wait for by then: every task has been let go.
	endGrace = 3 * time.Second
	// collectDeadline bounds what is asked of an API server that may be stopped.
	collectDeadline = 10 * time.Second
)

// env is the place of one scenario.
//
// Its directory holds tasks (the queue), spool (a link to it, where runners look
// for it), hold (pipes that tasks wait for), journal (what tasks note),
// kubeconfig and token, admin (a kubeconfig for people), runners (a directory each), gpus (the state of fake ones)
// and, if it is private, controlplane.
type env struct {
	place.Place
	*holds
	target *Target
	dir    string

	plane *ControlPlane // private to this scenario, or nil
	rest  *rest.Config
	token *token
	proxy *proxy // between the runners and the API server, or nil

	mu        sync.Mutex // guards what follows, and one start of a runner at a time
	processes []*process // in the order of their starts, ended ones too
	closed    bool
}

var (
	_ targets.Env              = (*env)(nil)
	_ targets.APIServerControl = (*env)(nil)
	_ targets.NetworkControl   = (*env)(nil)
	_ targets.TokenControl     = (*env)(nil)
	_ targets.FakeGPUControl   = (*env)(nil)
	_ targets.QueueControl     = (*env)(nil)
	_ targets.KubectlControl   = (*env)(nil)
)

// layout makes everything that is on the disk.
func (e *env) layout() error {
	var err error
	config := e.target.config
	if e.dir, err = os.MkdirTemp(config.TempDir, "studio-go-runner-e2e-*"); err != nil {
		return err
	}
	for _, dir := range []string{"tasks", "hold", "runners", "gpus", "controlplane"} {
		if err := os.Mkdir(filepath.Join(e.dir, dir), 0o755); err != nil {
			return err
		}
	}
	e.Ground, e.holds = e, &holds{dir: filepath.Join(e.dir, "hold")}
	e.Layout = place.Layout{
		Runner: cmp.Or(config.ClientBinary, config.RunnerBinary), Library: config.NVMLLibrary,
		Spool: filepath.Join(e.dir, "tasks"), Journal: filepath.Join(e.dir, "journal"), Machines: filepath.Join(e.dir, "gpus"),
		Adapter: config.Adapter,
	}
	return errors.Join(os.WriteFile(e.Layout.Journal, nil, 0o644), os.Symlink(e.Layout.Spool, e.spool()))
}

// connect makes everything that is in the cluster.
func (e *env) connect(ctx context.Context) error {
	config, admin, client, key := e.target.rest, kubernetes.Interface(e.target.admin), e.target.client, e.target.config.Handle.SigningKey
	if e.Needs(scenario.NeedAPIServer) {
		var err error
		if e.plane, err = StartControlPlane(ctx, e.target.config.Handle.Assets, filepath.Join(e.dir, "controlplane"), e.Isolation.APIServerFlags); err != nil {
			return err
		}
		key = e.plane.handle.SigningKey
		if config, admin, err = connect(e.plane.Handle()); err != nil {
			return err
		}
		if client, err = klient.New(rest.CopyConfig(config)); err != nil {
			return fmt.Errorf("make client: %w", err)
		}
	}
	e.rest = config
	if err := e.Make(ctx, admin, client, nil); err != nil {
		return err
	}
	e.token = &token{admin: admin, account: e.Account, key: key, path: filepath.Join(e.dir, "token")}
	if err := e.token.renew(ctx); err != nil {
		return err
	}
	server, ca := config.Host, config.CAData
	if e.Needs(scenario.NeedNetwork) {
		var err error
		if e.proxy, err = newProxy(config.Host, config.CAData); err != nil {
			return err
		}
		server, ca = "https://"+e.proxy.port.address(), append(bytes.Clone(ca), e.proxy.front.certificate()...)
	}
	return writeKubeconfig(e.Kubeconfig(), server, ca, e.Namespace(), e.token.path)
}

// Kubeconfig is the file that runners use. It is for who starts runners without StartRunner.
func (e *env) Kubeconfig() string { return filepath.Join(e.dir, "kubeconfig") }
func (e *env) spool() string      { return filepath.Join(e.dir, "spool") }

// Run runs a program beside the files of the place.
func (e *env) Run(ctx context.Context, stdin io.Reader, stdout io.Writer, command ...string) error {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &stderr
	cmd.Env = passedOn()
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	dieWithParent(cmd.SysProcAttr)
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("%s: %w\n%s", strings.Join(command[:min(len(command), 2)], " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return nil
}

// Collect adds the logs of the control plane; those of the runners are there already.
func (e *env) Collect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, collectDeadline)
	defer cancel()
	problems := []error{e.Place.Collect(ctx)}
	if e.plane != nil {
		for _, path := range e.plane.Logs() {
			data, err := os.ReadFile(path)
			problems = append(problems, err, e.Save(filepath.Base(path), data))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("collect artifacts: %w", err)
	}
	return nil
}

// Close ends the runners and their tasks and removes everything that was made.
func (e *env) Close(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true

	var problems []error
	note := func(err error) { problems = append(problems, err) }
	for _, p := range e.processes {
		note(p.terminate())
	}
	if e.holds != nil {
		note(e.holds.releaseAll())
		defer e.holds.close()
	}
	grace := time.Now().Add(endGrace)
	for _, p := range e.processes {
		p.stop(time.Until(grace))
	}
	if e.dir != "" {
		note(killLeftovers(ctx, e.dir)) // tasks whose runner was killed
	}
	if e.proxy != nil {
		e.proxy.close()
	}
	if e.plane != nil {
		note(e.plane.Close())
	} else {
		for _, ns := range e.Namespaces() {
			note(removeNamespace(ctx, e.Admin, ns))
		}
	}
	if e.dir != "" {
		note(os.RemoveAll(e.dir))
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("close scenario %q: %w", e.Isolation.Name, err)
	}
	return nil
}
