package embedded

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

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

	journal *os.File      // see Layout
	plane   *ControlPlane // private to this scenario, or nil
	token   *token
	network *network // between the runners and the API server, or nil

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
	e.Layout.Queue = "--spool=" + e.Layout.Spool
	if err := errors.Join(syscall.Mkfifo(e.Layout.Journal, 0o644), os.Symlink(e.Layout.Spool, e.spool())); err != nil {
		return err
	}
	// For writing, too: so that no task waits for a reader, nor a reader for a task.
	e.journal, err = os.OpenFile(e.Layout.Journal, os.O_RDWR, 0)
	return err
}

// connect makes everything that is in the cluster.
func (e *env) connect(ctx context.Context) (err error) {
	handle := e.target.config.Handle
	if e.Needs(scenario.NeedAPIServer) {
		if e.plane, err = StartControlPlane(ctx, handle.Assets, filepath.Join(e.dir, "controlplane"), e.Isolation.APIServerFlags); err != nil {
			return err
		}
		handle = e.plane.Handle()
		if e.Access, err = connect(handle); err != nil {
			return err
		}
	}
	if err := e.Make(ctx, nil); err != nil {
		return err
	}
	e.token = &token{admin: e.Admin, account: e.Account, key: handle.SigningKey, path: filepath.Join(e.dir, "token")}
	if err := e.token.renew(ctx); err != nil {
		return err
	}
	server, ca := e.Config.Host, e.Config.CAData
	if e.Needs(scenario.NeedNetwork) {
		if e.network, err = newNetwork(server, ca); err != nil {
			return err
		}
		server, ca = e.network.server.URL, e.network.certificate()
	}
	return writeKubeconfig(e.Kubeconfig(), server, ca, e.Namespace(), e.token.path)
}

// Kubeconfig is the file that runners use. It is for who starts runners without StartRunner.
func (e *env) Kubeconfig() string { return filepath.Join(e.dir, "kubeconfig") }
func (e *env) spool() string      { return filepath.Join(e.dir, "spool") }

// Run runs a program beside the files of the place.
func (e *env) Run(ctx context.Context, stdin io.Reader, stdout io.Writer, command ...string) error {
	return place.Program(ctx, nil, stdin, stdout, command...)
}

// Notes reads the journal.
func (e *env) Notes(ctx context.Context, each func(line string) error) error {
	_ = e.journal.SetReadDeadline(time.Time{}) // what may be called once, can be called again
	defer context.AfterFunc(ctx, func() { _ = e.journal.SetReadDeadline(time.Now()) })()
	for reader := bufio.NewReader(e.journal); ; {
		line, err := reader.ReadString('\n')
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = each(strings.TrimSuffix(line, "\n"))
		}
		if err != nil {
			return err
		}
	}
}

// Collect adds the logs of the control plane; those of the runners are there already.
func (e *env) Collect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, collectDeadline)
	defer cancel()
	problems := []error{e.Place.Collect(ctx)}
	if e.plane != nil {
		for name, log := range e.plane.Logs() {
			problems = append(problems, e.Save(name+".log", log))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("collect artifacts: %w", err)
	}
	return nil
}

// Close ends the runners and their tasks and removes everything that was made. The
// namespace goes with the control plane: there is no controller-manager to empty it,
// and nobody else looks into it.
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
	if e.network != nil {
		e.network.close()
	}
	if e.plane != nil {
		note(e.plane.Close())
	}
	if e.journal != nil {
		note(e.journal.Close())
	}
	if e.dir != "" {
		note(os.RemoveAll(e.dir))
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("close scenario %q: %w", e.Isolation.Name, err)
	}
	return nil
}
