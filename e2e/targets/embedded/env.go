package embedded

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/studioml/studio-go-runner/e2e/controlplane"
	"github.com/studioml/studio-go-runner/e2e/network"
	"github.com/studioml/studio-go-runner/e2e/older"
	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/e2e/program"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// env is the place of one scenario. It has the methods of all faults, so that one type
// will do. A scenario has to name the need for what it uses of them, and only then is
// there what these are about.
//
// Its directory holds tasks (the queue, if it is a spool), spool (a link to it, where
// runners look for it), hold (pipes that tasks wait for), journal (what tasks note), kubeconfig
// and token, admin (a kubeconfig for people), runners (a directory each) and gpus (the
// state of fake ones).
type env struct {
	place.Place
	targets.APIServerControl // of plane
	targets.NetworkControl   // of what is between the runners and the API server
	targets.TokenControl     // of the runners' token

	plane   *controlplane.ControlPlane // private to this scenario, or nil
	config  Config                     // of the target, with that control plane
	dir     string
	journal *os.File        // see Layout
	way     *pgserver.Proxy // to the queue's server, or nil

	mu        sync.Mutex  // guards what follows, and one start of a runner at a time
	processes []*process  // in the order of their starts, ended ones too
	open      []io.Closer // what Close closes
	closed    bool
}

var (
	_ targets.Env            = (*env)(nil)
	_ targets.FakeGPUControl = (*env)(nil)
	_ targets.QueueControl   = (*env)(nil)
	_ targets.KubectlControl = (*env)(nil)
)

// layout makes everything that is on the disk, and the queue.
func (e *env) layout(ctx context.Context) (err error) {
	if e.dir, err = os.MkdirTemp(e.config.TempDir, "studio-go-runner-e2e-*"); err != nil {
		return err
	}
	for _, dir := range []string{"tasks", "hold", "runners", "gpus"} {
		if err := os.Mkdir(filepath.Join(e.dir, dir), 0o755); err != nil {
			return err
		}
	}
	e.Ground = e
	e.Layout = place.Layout{
		Runner: cmp.Or(e.config.ClientBinary, e.config.RunnerBinary), Library: e.config.NVMLLibrary,
		Journal: filepath.Join(e.dir, "journal"), Machines: filepath.Join(e.dir, "gpus"),
		Adapter: e.config.Adapter,
	}
	if err := syscall.Mkfifo(e.Layout.Journal, 0o644); err != nil {
		return err
	}
	if e.journal, err = e.openPipe(e.Layout.Journal); err != nil {
		return err
	}
	if e.Needs(scenario.NeedOlder) {
		if e.Layout.Submits, err = older.Program(ctx, e.Isolation.Server); err != nil {
			return err
		}
	}
	return e.createQueue(ctx)
}

// createQueue makes the queue, with a way to it for the runners.
func (e *env) createQueue(ctx context.Context) (err error) {
	e.Layout.Spool = filepath.Join(e.dir, "tasks")
	e.Layout.Queue = "--spool=" + e.Layout.Spool
	if !e.Isolation.Server {
		return e.RestoreQueue()
	}
	all, name := e.config.Queues.Databases(), filepath.Base(e.dir)
	if err := all.Create(ctx, name); err != nil {
		return err
	}
	e.Layout.Queue = "--queue=" + all.Of(name)
	if e.way, err = e.config.Queues.Proxy(); err == nil {
		e.open = append(e.open, e.way)
	}
	return err
}

// HideQueue takes the queue away from the runners.
func (e *env) HideQueue() error {
	if e.way != nil {
		e.way.Cut()
		return nil
	}
	return os.Remove(e.spool())
}

// RestoreQueue gives it back. What somebody has put in its place is an error: it
// would be lost.
func (e *env) RestoreQueue() error {
	if e.way != nil {
		e.way.Restore()
		return nil
	}
	err := os.Symlink(e.Layout.Spool, e.spool())
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("restore queue: it is not hidden, or a runner has made a new queue at %s", e.spool())
	}
	return err
}

// openPipe opens a named pipe for reading and writing, so that nobody waits for the other.
func (e *env) openPipe(path string) (*os.File, error) {
	pipe, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		e.open = append(e.open, pipe)
	}
	return pipe, err
}

// connect makes everything that is in the cluster.
func (e *env) connect(ctx context.Context) (err error) {
	if e.Needs(scenario.NeedAPIServer) {
		if e.plane, err = controlplane.Start(ctx, e.config.TempDir, e.Isolation.APIServerFlags); err != nil {
			return err
		}
		e.APIServerControl, e.open = e.plane, append(e.open, e.plane)
		e.config.Handle, e.Access = e.plane.Handle, e.plane.Access
	}
	if err := e.Make(ctx, nil); err != nil {
		return err
	}
	token := &controlplane.Token{
		Admin: e.Admin, Account: e.ServiceAccount, Key: e.config.SigningKey, Path: filepath.Join(e.dir, "token"),
	}
	if err := token.Renew(ctx); err != nil {
		return err
	}
	e.TokenControl = token
	server, ca := e.config.Server, e.config.CA
	if e.Needs(scenario.NeedNetwork) {
		between, err := network.New(server, ca)
		if err != nil {
			return err
		}
		e.NetworkControl, e.open = between, append(e.open, between)
		server, ca = between.URL, between.Certificate
	}
	return writeKubeconfig(e.Kubeconfig(), server, ca, e.Namespace(), &api.AuthInfo{TokenFile: token.Path})
}

// Kubeconfig is the file that runners use. It is for who starts runners without StartRunner.
func (e *env) Kubeconfig() string { return filepath.Join(e.dir, "kubeconfig") }
func (e *env) spool() string      { return filepath.Join(e.dir, "spool") }

// Run runs a program beside the files of the place.
func (e *env) Run(ctx context.Context, stdin []byte, stdout io.Writer, command ...string) error {
	return program.Run(ctx, nil, bytes.NewReader(stdin), stdout, command...)
}

// Hold makes the pipe that the tasks of a group wait for, unless it is there: opening
// one takes until somebody has it open for writing.
func (e *env) Hold(group string) (string, error) {
	pipe := filepath.Join(e.dir, "hold", url.PathEscape(group))
	if err := syscall.Mkfifo(pipe, 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make pipe %s: %w", pipe, err)
	}
	return pipe, nil
}

// Release lets the tasks of a group go at once, and those that come later not wait: the
// pipe is open from now on.
func (e *env) Release(_ context.Context, group string) error {
	pipe, err := e.Hold(group)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err = e.openPipe(pipe)
	return err
}

// Journal reads the journal.
func (e *env) Journal(ctx context.Context, each func(targets.TaskNote)) error {
	defer context.AfterFunc(ctx, func() { _ = e.journal.SetReadDeadline(time.Now()) })()
	lines := bufio.NewScanner(e.journal)
	for lines.Scan() {
		if err := place.Note(lines.Text(), each); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return lines.Err()
}

// Logs saves those of the control plane; those of the runners are there already.
func (e *env) Logs(context.Context) (err error) {
	if e.plane != nil {
		for name, log := range e.plane.Logs() {
			err = errors.Join(err, e.Evidence().Save(name+".log", log))
		}
	}
	return err
}

// Close kills the runners and their tasks and removes everything that was made. The
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
	if e.dir != "" {
		problems = append(problems, program.Clean(ctx, e.dir)) // which ends what runs there first
	}
	for _, p := range e.processes {
		p.Kill()
		p.all.Wait()
	}
	for _, one := range e.open {
		problems = append(problems, one.Close())
	}
	if e.way != nil {
		problems = append(problems, e.config.Queues.Databases().Drop(ctx, filepath.Base(e.dir)))
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("close scenario %q: %w", e.Isolation.Name, err)
	}
	return nil
}
