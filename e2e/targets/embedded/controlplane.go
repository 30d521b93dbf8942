package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// startTimeout is how long etcd and the API server may each take to answer.
// They take 4 s on two idle cores; parallel tests leave them a part of that.
const startTimeout = 90 * time.Second

// ControlPlane is an etcd and a kube-apiserver that run on this machine.
type ControlPlane struct {
	dir    string
	handle Handle
	logs   []*os.File

	port    int
	release func() // gives the port back

	mu      sync.Mutex // one start or stop at a time
	plane   *envtest.ControlPlane
	stopped bool // the API server, by StopAPIServer
}

// Handle is all that another process needs to use a control plane. It is plain
// data, and travels between the processes of a test run as JSON.
type Handle struct {
	// Kubeconfig is for a user with all rights.
	Kubeconfig []byte `json:"kubeconfig"`
	// Assets is the directory of the programs that it was started from.
	Assets string `json:"assets"`
	// SigningKey is what tokens of service accounts are signed with, as PEM.
	SigningKey []byte `json:"signingKey"`
}

// ParseHandle reads it.
func ParseHandle(data []byte) (Handle, error) {
	var h Handle
	if err := json.Unmarshal(data, &h); err != nil {
		return Handle{}, fmt.Errorf("parse control plane handle: %w", err)
	}
	return h, nil
}

// StartControlPlane starts the programs that are in the directory assets (see
// assets.Ensure), the API server with further flags, by name without dashes. Data,
// certificates and logs are kept in dir, which the caller removes after Close.
func StartControlPlane(ctx context.Context, assets, dir string, flags map[string]string) (_ *ControlPlane, err error) {
	c := &ControlPlane{dir: dir, handle: Handle{Assets: assets}, release: func() {}}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start control plane: %w%s", err, c.logTail())
			_ = c.Close()
		}
	}()
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	for name, value := range flags {
		c.plane.APIServer.Configure().Set(name, value)
	}
	if err := c.deadline(ctx); err != nil {
		return nil, err
	}
	if err := c.plane.Start(); err != nil {
		return nil, err
	}
	user, err := c.plane.AddUser(envtest.User{Name: "e2e", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		return nil, err
	}
	if c.handle.Kubeconfig, err = user.KubeConfig(); err != nil {
		return nil, err
	}
	if c.handle.SigningKey, err = os.ReadFile(filepath.Join(c.dir, "certs", "sa-signer.key")); err != nil {
		return nil, err
	}
	return c, c.ready(ctx)
}

// prepare fills in how the programs are started. Directories are ours, because
// envtest empties at each stop the ones that it makes itself.
func (c *ControlPlane) prepare(ctx context.Context) error {
	var err error
	if c.port, c.release, err = reservePort(); err != nil {
		return fmt.Errorf("reserve port: %w", err)
	}
	for _, dir := range []string{"bin", "certs", "etcd"} {
		if err := os.MkdirAll(filepath.Join(c.dir, dir), 0o700); err != nil {
			return err
		}
	}
	etcd, etcdLog, err := c.program(ctx, "etcd")
	if err != nil {
		return err
	}
	server, serverLog, err := c.program(ctx, "kube-apiserver")
	if err != nil {
		return err
	}
	c.plane = &envtest.ControlPlane{
		Etcd:      &envtest.Etcd{Path: etcd, DataDir: filepath.Join(c.dir, "etcd"), Out: etcdLog, Err: etcdLog},
		APIServer: &envtest.APIServer{Path: server, CertDir: filepath.Join(c.dir, "certs"), Out: serverLog, Err: serverLog},
	}
	// The data need not survive a power cut.
	c.plane.Etcd.Configure().Set("unsafe-no-fsync", "true").Set("log-level", "warn")
	c.plane.APIServer.SecureServing.Address = "127.0.0.1"
	c.plane.APIServer.SecureServing.Port = strconv.Itoa(c.port)
	c.plane.APIServer.Configure().
		Set("authorization-mode", "RBAC").
		Set("permit-port-sharing", "true"). // with the socket that reserves the port
		Set("delete-collection-workers", "8")
	return nil
}

// wrapper starts the program beside it, called as the script and ".bin". It
// leaves the process id for crashes, and has the kernel kill the program when
// the tests die: envtest would leave it running.
const wrapper = `#!/bin/sh
echo $$ >"$0.pid"
exec %s"$0.bin" "$@"
`

// program makes the wrapper for a program, and the file that takes its output.
func (c *ControlPlane) program(ctx context.Context, name string) (path string, log *os.File, err error) {
	prefix := []string{"setpriv", "--pdeathsig", "KILL"}
	if exec.CommandContext(ctx, prefix[0], append(prefix[1:], "true")...).Run() != nil {
		prefix = nil // not Linux, or another setpriv than util-linux has
	}
	path = filepath.Join(c.dir, "bin", name)
	if err := os.Symlink(filepath.Join(c.handle.Assets, name), path+".bin"); err != nil {
		return "", nil, err
	}
	script := fmt.Sprintf(wrapper, strings.Join(append(prefix, ""), " "))
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		return "", nil, err
	}
	if log, err = os.OpenFile(filepath.Join(c.dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err == nil {
		c.logs = append(c.logs, log)
	}
	return path, log, err
}

// Logs returns the names of the log files.
func (c *ControlPlane) Logs() []string {
	var names []string
	for _, file := range c.logs {
		names = append(names, file.Name())
	}
	return names
}

// logTail returns the end of each log, for errors.
func (c *ControlPlane) logTail() string {
	const size = 2 << 10 // a few lines
	var text strings.Builder
	for _, name := range c.Logs() {
		data, err := os.ReadFile(name)
		if err != nil || len(data) == 0 {
			continue
		}
		fmt.Fprintf(&text, "\n--- end of %s\n%s", filepath.Base(name), data[max(0, len(data)-size):])
	}
	return text.String()
}

// deadline hands the deadline of ctx to envtest, which knows no contexts.
func (c *ControlPlane) deadline(ctx context.Context) error {
	timeout := startTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c.plane.Etcd.StartTimeout, c.plane.APIServer.StartTimeout = timeout, timeout
	return nil
}

// ready waits until the API server says that it is ready, which is later than
// envtest waits for: then its view of Roles and policies is complete.
func (c *ControlPlane) ready(ctx context.Context) error {
	config, err := c.handle.config()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var last error
	if err := place.Poll(ctx, func() bool {
		last = client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		return last == nil
	}); err != nil {
		return fmt.Errorf("wait until the API server is ready: %w (%w)", err, last)
	}
	return nil
}

// Handle returns what other processes need.
func (c *ControlPlane) Handle() Handle { return c.handle }

// config is the client configuration of the user with all rights.
func (h Handle) config() (*rest.Config, error) {
	config, err := clientcmd.RESTConfigFromKubeConfig(h.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig of the control plane: %w", err)
	}
	config.QPS = -1 // no limit: the default of 5 a second would slow the tests down
	return config, nil
}

// StopAPIServer kills the API server, as a crash does. Clients of a server that
// is asked to stop would keep it waiting.
func (c *ControlPlane) StopAPIServer(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return errors.New("stop API server: it is stopped already")
	}
	if err := c.crash(); err != nil {
		return fmt.Errorf("stop API server: %w", err)
	}
	c.stopped = true
	return nil
}

// StartAPIServer starts it again, with the same address, certificates and data,
// and waits until it is ready.
func (c *ControlPlane) StartAPIServer(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		return errors.New("start API server: it is running already")
	}
	if err := c.deadline(ctx); err != nil {
		return fmt.Errorf("start API server: %w", err)
	}
	if err := c.plane.APIServer.Start(); err != nil {
		return fmt.Errorf("start API server: %w%s", err, c.logTail())
	}
	c.stopped = false
	return c.ready(ctx)
}

// crash kills the API server and waits for its end.
func (c *ControlPlane) crash() error {
	data, err := os.ReadFile(filepath.Join(c.dir, "bin", "kube-apiserver.pid"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 1 {
		return fmt.Errorf("process id is %q", data)
	}
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	// Stop sends a signal that may come too late, and waits.
	if err := c.plane.APIServer.Stop(); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// Close stops everything. The directory stays.
func (c *ControlPlane) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var problems []error
	if c.plane != nil {
		if !c.stopped && c.plane.APIServer.SecureServing.CA != nil {
			problems = append(problems, c.crash()) // nothing in it is worth a slow end
		}
		if err := c.plane.Etcd.Stop(); err != nil && !errors.Is(err, syscall.ESRCH) {
			problems = append(problems, err)
		}
		c.plane = nil
	}
	c.release()
	for _, file := range c.logs {
		problems = append(problems, file.Close())
	}
	c.logs = nil
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("stop control plane: %w", err)
	}
	return nil
}

// reservePort lets the kernel choose a port of the loopback interface, which is ours
// even while no server listens on it: a server that also sets SO_REUSEPORT can.
// Without that, another program, or a client that tries to connect to the stopped
// server, may be given the port as its own.
func reservePort() (port int, release func(), err error) {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, err
	}
	release = sync.OnceFunc(func() { unix.Close(socket) })
	err = unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if err == nil {
		err = unix.Bind(socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	name, failed := unix.Getsockname(socket)
	if err = errors.Join(err, failed); err != nil {
		release()
		return 0, nil, err
	}
	return name.(*unix.SockaddrInet4).Port, release, nil
}
