package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/e2e-framework/klient"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/namespace"
	"github.com/studioml/studio-go-runner/e2e/targets/tasks"
)

// endGrace is how long runners may take to end when an Env is closed. They have
// nothing to wait for by then: every task has been let go.
const endGrace = 3 * time.Second

// env is the place of one scenario.
//
// Its directory holds spool (the queue), hold (files that tasks wait for),
// journal (what tasks note), kubeconfig, runners (a directory each) and, if it
// is private, controlplane.
type env struct {
	target    *Target
	isolation targets.Isolation
	dir       string

	plane  *ControlPlane // private to this scenario, or nil
	rest   *rest.Config
	admin  kubernetes.Interface
	client klient.Client // the same rights, for the scenario

	namespace string
	account   *namespace.Account
	proxy     *proxy // between the runners and the API server, or nil
	spool     *spool
	holds     *holds

	mu        sync.Mutex // guards what follows, and one start of a runner at a time
	elsewhere string
	processes []*process // in the order of their starts, ended ones too
	closed    bool
}

var (
	_ targets.Env              = (*env)(nil)
	_ targets.APIServerControl = (*env)(nil)
	_ targets.NetworkControl   = (*env)(nil)
	_ targets.QueueControl     = (*env)(nil)
)

// newEnv makes the place; what was made is removed again if anything fails.
func newEnv(ctx context.Context, t *Target, isolation targets.Isolation) (_ *env, err error) {
	e := &env{target: t, isolation: isolation, rest: t.rest, admin: t.admin, client: t.client}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close(context.WithoutCancel(ctx)))
		}
	}()
	if err := e.layout(); err != nil {
		return nil, err
	}
	return e, e.connect(ctx)
}

// layout makes everything that is on the disk.
func (e *env) layout() error {
	var err error
	if e.dir, err = os.MkdirTemp(e.target.config.TempDir, "studio-go-runner-e2e-*"); err != nil {
		return err
	}
	for _, dir := range []string{"spool", "hold", "runners", "controlplane"} {
		if err := os.Mkdir(filepath.Join(e.dir, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(e.journal(), nil, 0o644); err != nil {
		return err
	}
	if e.isolation.Artifacts != "" {
		if err := os.MkdirAll(e.isolation.Artifacts, 0o755); err != nil {
			return err
		}
	}
	e.spool = &spool{runner: cmp.Or(e.target.config.ClientBinary, e.target.config.RunnerBinary), path: filepath.Join(e.dir, "spool")}
	e.holds = newHolds(filepath.Join(e.dir, "hold"))
	return nil
}

// connect makes everything that is in the cluster.
func (e *env) connect(ctx context.Context) error {
	var err error
	if e.needs(scenario.NeedAPIServer) {
		if e.plane, err = StartControlPlane(ctx, e.target.config.Handle.Assets, filepath.Join(e.dir, "controlplane")); err != nil {
			return err
		}
		if e.rest, e.admin, err = connect(e.plane.Handle()); err != nil {
			return err
		}
		if e.client, err = klient.New(rest.CopyConfig(e.rest)); err != nil {
			return fmt.Errorf("make client: %w", err)
		}
	}
	if e.namespace, err = namespace.Create(ctx, e.admin, e.isolation.Name, nil); err != nil {
		return err
	}
	if e.account, err = namespace.ShippedAccount(ctx, e.namespace, e.isolation.NodeMaps); err != nil {
		return err
	}
	if err := e.account.Create(ctx, e.admin, e.isolation.Permissions); err != nil {
		return err
	}
	address := ""
	if e.needs(scenario.NeedNetwork) {
		server, err := url.Parse(e.rest.Host)
		if err != nil {
			return err
		}
		if e.proxy, err = newProxy(server.Host); err != nil {
			return err
		}
		address = e.proxy.address()
	}
	return writeKubeconfig(ctx, e.admin, e.rest, e.namespace, e.account.Name(), address, e.kubeconfig())
}

func (e *env) needs(need scenario.Need) bool { return slices.Contains(e.isolation.Needs, need) }
func (e *env) journal() string               { return filepath.Join(e.dir, "journal") }
func (e *env) kubeconfig() string            { return filepath.Join(e.dir, "kubeconfig") }

// Namespace is that of the runners.
func (e *env) Namespace() string { return e.namespace }

// Elsewhere is a namespace in which the runners have no rights.
func (e *env) Elsewhere(ctx context.Context) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.elsewhere != "" {
		return e.elsewhere, nil
	}
	var err error
	e.elsewhere, err = namespace.Create(ctx, e.admin, e.isolation.Name, nil)
	return e.elsewhere, err
}

// Client has all rights.
func (e *env) Client() klient.Client { return e.client }

// TaskCommand is the command line of a task of the tests.
func (e *env) TaskCommand(spec targets.TaskSpec) (command string, args []string, err error) {
	var hold tasks.Hold
	if spec.Hold {
		file, err := e.holds.hold(spec.Group)
		if err != nil {
			return "", nil, err
		}
		hold = tasks.Lock(file)
	}
	command, args = tasks.Command(e.journal(), hold, spec)
	return command, args, nil
}

// Release lets the held tasks of a group end, now and later.
func (e *env) Release(_ context.Context, group string) error { return e.holds.release(group) }

// Journal calls each for every note of a task until ctx ends.
func (e *env) Journal(ctx context.Context, each func(targets.TaskNote)) error {
	return tasks.FollowJournal(ctx, e.journal(), each)
}

// SetPermissions changes the rights of the runners and waits until they are in force.
func (e *env) SetPermissions(ctx context.Context, p scenario.Permissions) error {
	return e.account.Set(ctx, e.admin, p)
}

// Admission installs the shipped policy for the namespace.
func (e *env) Admission(ctx context.Context) error {
	return namespace.InstallAdmission(ctx, e.admin, e.namespace)
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
		for _, ns := range []string{e.namespace, e.elsewhere} {
			if ns != "" {
				note(removeNamespace(ctx, e.admin, ns))
			}
		}
	}
	if e.dir != "" {
		note(os.RemoveAll(e.dir))
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("close scenario %q: %w", e.isolation.Name, err)
	}
	return nil
}
