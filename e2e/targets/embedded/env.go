package embedded

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/studioml/studio-go-runner/e2e/controlplane"
	"github.com/studioml/studio-go-runner/e2e/network"
	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/e2e/program"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// collectDeadline bounds what is asked of an API server that may be stopped.
const collectDeadline = 10 * time.Second

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
	plane   *controlplane.ControlPlane // private to this scenario, or nil
	target  *Target
	dir     string
	journal *os.File            // see Layout
	handle  Handle              // of the control plane, whose ever it is
	token   *controlplane.Token // of the runners
	network *network.Network    // between the runners and the API server, or nil
	way     *pgserver.Proxy     // to the queue's server, or nil

	mu        sync.Mutex // guards what follows, and one start of a runner at a time
	processes []*process // in the order of their starts, ended ones too
	released  []*os.File // pipes
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
func (e *env) layout() (err error) {
	config := e.target.config
	if e.dir, err = os.MkdirTemp(config.TempDir, "studio-go-runner-e2e-*"); err != nil {
		return err
	}
	for _, dir := range []string{"tasks", "hold", "runners", "gpus"} {
		if err := os.Mkdir(filepath.Join(e.dir, dir), 0o755); err != nil {
			return err
		}
	}
	e.Ground = e
	e.Layout = place.Layout{
		Runner: cmp.Or(config.ClientBinary, config.RunnerBinary), Library: config.NVMLLibrary,
		Journal: filepath.Join(e.dir, "journal"), Machines: filepath.Join(e.dir, "gpus"),
		Adapter: config.Adapter,
	}
	if err := syscall.Mkfifo(e.Layout.Journal, 0o644); err != nil {
		return err
	}
	// For writing, too: so that no task waits for a reader, nor a reader for a task.
	e.journal, err = os.OpenFile(e.Layout.Journal, os.O_RDWR, 0)
	return err
}

// connect makes everything that is in the cluster.
func (e *env) connect(ctx context.Context) (err error) {
	if e.Needs(scenario.NeedAPIServer) {
		if e.plane, err = controlplane.Start(ctx, e.dir, e.Isolation.APIServerFlags); err != nil {
			return err
		}
		e.handle.Handle, e.Access = e.plane.Handle(), e.plane.Access
	}
	if err := e.Make(ctx, nil); err != nil {
		return err
	}
	account := types.NamespacedName{Namespace: e.Namespace(), Name: e.ServiceAccount()}
	e.token = &controlplane.Token{Admin: e.Admin, Account: account, Key: e.handle.SigningKey, Path: filepath.Join(e.dir, "token")}
	if err := e.token.Renew(ctx); err != nil {
		return err
	}
	server, ca := e.handle.Server, e.handle.CA
	if e.Needs(scenario.NeedNetwork) {
		if e.network, err = network.New(server, ca); err != nil {
			return err
		}
		server, ca = e.network.URL(), e.network.Certificate()
	}
	return controlplane.WriteKubeconfig(e.Kubeconfig(), server, ca, e.Namespace(), &api.AuthInfo{TokenFile: e.token.Path})
}

// StopAPIServer kills the one of this scenario.
func (e *env) StopAPIServer(ctx context.Context) error { return e.plane.StopAPIServer(ctx) }

// StartAPIServer starts it again.
func (e *env) StartAPIServer(ctx context.Context) error { return e.plane.StartAPIServer(ctx) }

// SetToken changes the token of the runners.
func (e *env) SetToken(ctx context.Context, what scenario.Token) error {
	return e.token.SetToken(ctx, what)
}

// SetNetwork changes what is between the runners and the API server.
func (e *env) SetNetwork(n network.Fault) error {
	e.network.Set(n)
	return nil
}

// Kubeconfig is the file that runners use. It is for who starts runners without StartRunner.
func (e *env) Kubeconfig() string { return filepath.Join(e.dir, "kubeconfig") }
func (e *env) spool() string      { return filepath.Join(e.dir, "spool") }

// Run runs a program beside the files of the place.
func (e *env) Run(ctx context.Context, stdin io.Reader, stdout io.Writer, command ...string) error {
	return program.Run(ctx, nil, stdin, stdout, command...)
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
// pipe is open from now on. For reading too, because otherwise it would wait for tasks.
func (e *env) Release(_ context.Context, group string) error {
	pipe, err := e.Hold(group)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("release tasks: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.released = append(e.released, file)
	return nil
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
	return e.CollectWithin(ctx, collectDeadline, func(context.Context) (err error) {
		if e.plane != nil {
			for name, log := range e.plane.Logs() {
				err = errors.Join(err, e.Evidence().Save(name+".log", log))
			}
		}
		return err
	})
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
	if e.network != nil {
		e.network.Close()
	}
	if e.plane != nil {
		problems = append(problems, e.plane.Close())
	}
	if e.dir != "" {
		problems = append(problems, program.Clean(ctx, e.dir))
	}
	for _, p := range e.processes {
		p.Kill()
		p.all.Wait()
	}
	problems = append(problems, e.dropQueue(ctx))
	for _, pipe := range e.released {
		pipe.Close()
	}
	if e.journal != nil {
		problems = append(problems, e.journal.Close())
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("close scenario %q: %w", e.Isolation.Name, err)
	}
	return nil
}
