package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// startTimeout is how long etcd and the API server may each take to answer.
// They take 4 s on two idle cores; parallel tests leave them a part of that.
const startTimeout = 90 * time.Second

// ControlPlane is an etcd and a kube-apiserver that run on this machine.
type ControlPlane struct {
	dir     string
	handle  Handle
	release func() // gives the port back

	mu      sync.Mutex // one start or stop at a time
	plane   envtest.ControlPlane
	stopped bool // the API server
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

// StartControlPlane starts the programs that are in the directory assets (see
// assets.Ensure), the API server with further flags, by name without dashes. Data,
// certificates and logs are kept in dir, which the caller removes after Close.
func StartControlPlane(ctx context.Context, assets, dir string, flags map[string]string) (_ *ControlPlane, err error) {
	c := &ControlPlane{dir: dir, handle: Handle{Assets: assets}}
	var port int
	if port, c.release, err = reservePort(); err != nil {
		return nil, fmt.Errorf("reserve port: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start control plane: %w%s", err, c.logTail())
			_ = c.Close()
		}
	}()
	if err := errors.Join(c.program("etcd"), c.program("kube-apiserver")); err != nil {
		return nil, err
	}
	// Directories are ours, because envtest empties at each stop the ones that it
	// makes itself.
	etcd := &envtest.Etcd{Path: c.path("etcd", "run"), DataDir: c.path("etcd"), StartTimeout: startTimeout}
	etcd.Configure().Set("unsafe-no-fsync", "true").Set("log-level", "warn") // the data need not survive a power cut
	server := &envtest.APIServer{Path: c.path("kube-apiserver", "run"), CertDir: c.path("kube-apiserver"), StartTimeout: startTimeout}
	server.SecureServing.Address, server.SecureServing.Port = "127.0.0.1", strconv.Itoa(port)
	server.Configure().
		Set("authorization-mode", "RBAC").
		Set("permit-port-sharing", "true"). // with the socket that reserves the port
		Set("delete-collection-workers", "8")
	for name, value := range flags {
		server.Configure().Set(name, value)
	}
	c.plane = envtest.ControlPlane{Etcd: etcd, APIServer: server}
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
	if c.handle.SigningKey, err = os.ReadFile(c.path("kube-apiserver", "sa-signer.key")); err != nil {
		return nil, err
	}
	return c, c.ready(ctx)
}

func (c *ControlPlane) path(elements ...string) string {
	return filepath.Join(append([]string{c.dir}, elements...)...)
}

// wrapper starts the program beside it. It leaves the process id for crashes, and has
// the kernel kill the program when the tests die: envtest would leave it running.
const wrapper = `#!/bin/sh
cd "$(dirname "$0")" && exec >>log 2>&1
echo $$ >pid
exec setpriv --pdeathsig KILL ./program "$@"
`

// program makes the directory of a program, with its wrapper.
func (c *ControlPlane) program(name string) error {
	if err := os.MkdirAll(c.path(name), 0o700); err != nil {
		return err
	}
	return errors.Join(
		os.Symlink(filepath.Join(c.handle.Assets, name), c.path(name, "program")),
		os.WriteFile(c.path(name, "run"), []byte(wrapper), 0o755))
}

// Logs are those of the programs so far, by their names.
func (c *ControlPlane) Logs() map[string][]byte {
	logs := map[string][]byte{}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		logs[name], _ = os.ReadFile(c.path(name, "log")) // none if it was not started
	}
	return logs
}

// logTail returns the end of each log, for errors.
func (c *ControlPlane) logTail() (text string) {
	const size = 2 << 10 // a few lines
	for name, log := range c.Logs() {
		text += fmt.Sprintf("\n--- end of %s.log\n%s", name, log[max(0, len(log)-size):])
	}
	return text
}

// ready waits until the API server says that it is ready, which is later than
// envtest waits for: then its view of Roles and policies is complete.
func (c *ControlPlane) ready(ctx context.Context) error {
	config, err := clientcmd.RESTConfigFromKubeConfig(c.handle.Kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = place.Poll(ctx, func() error { return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() })
	if err != nil {
		return fmt.Errorf("wait until the API server is ready: %w", err)
	}
	return nil
}

// Handle returns what other processes need.
func (c *ControlPlane) Handle() Handle { return c.handle }

// connect makes clients with all rights.
func connect(handle Handle) (place.Access, error) {
	config, err := clientcmd.RESTConfigFromKubeConfig(handle.Kubeconfig)
	if err != nil {
		return place.Access{}, fmt.Errorf("read kubeconfig of the control plane: %w", err)
	}
	return place.Connect(config)
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
	if err := c.plane.APIServer.Start(); err != nil {
		return fmt.Errorf("start API server: %w%s", err, c.logTail())
	}
	c.stopped = false
	return c.ready(ctx)
}

// crash kills the API server and waits for its end.
func (c *ControlPlane) crash() error {
	data, err := os.ReadFile(c.path("kube-apiserver", "pid"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return err
	}
	// Stop sends a signal that may come too late, and waits.
	return errors.Join(unlessEnded(syscall.Kill(-pid, syscall.SIGKILL)), unlessEnded(c.plane.APIServer.Stop()))
}

// unlessEnded is the error of a signal, if there was somebody to get it.
func unlessEnded(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// Close stops everything. The directory stays.
func (c *ControlPlane) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.release()
	var err error
	if !c.stopped {
		err = c.crash() // nothing in it is worth a slow end
		c.stopped = true
	}
	if c.plane.Etcd != nil {
		err = errors.Join(err, unlessEnded(c.plane.Etcd.Stop()))
	}
	if err != nil {
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
