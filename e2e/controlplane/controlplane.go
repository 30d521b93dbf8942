// Package controlplane runs an etcd and a kube-apiserver on the loopback interface. The
// API server is complete as far as a runner can tell; there is no controller-manager, no
// kubelet and no node.
package controlplane

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/program"
)

// EnvAssets names a directory with ready-made programs. It is the variable that
// controller-runtime's setup-envtest prints.
const EnvAssets = "KUBEBUILDER_ASSETS"

// Programs is the directory that has etcd and kube-apiserver. Kubectl is not missed in
// it.
func Programs() (string, error) {
	dir := os.Getenv(EnvAssets)
	if dir == "" {
		return "", fmt.Errorf("%s is not set; run this with make, which has the programs downloaded or built", EnvAssets)
	}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("%s is %q: it has no %s; unset it to have the programs downloaded or built: %w", EnvAssets, dir, name, err)
		}
	}
	return filepath.Abs(dir) // they run in directories of their own
}

// ControlPlane is an etcd and a kube-apiserver that run on this machine. Its methods are
// for one goroutine at a time.
type ControlPlane struct {
	kube.Access        // with all rights
	Handle      Handle // what other processes need

	dir    string
	flags  map[string]string // of the API server
	etcd   *program.Program
	server *program.Program // nil while there is no API server
}

// Handle is all that another process needs to use a control plane. It is plain
// data, and travels between the processes of a test run as JSON.
type Handle struct {
	Server string // URL of the API server
	CA     []byte // that its certificate is to be checked with, as PEM
	Token  string // of a user with all rights
	// SigningKey is what tokens of service accounts are signed with, as PEM.
	SigningKey []byte
	// Assets is the directory of the programs that it was started from.
	Assets string
}

// Connect makes clients with all rights.
func (h Handle) Connect() (kube.Access, error) {
	return kube.Connect(&rest.Config{Host: h.Server, BearerToken: h.Token, TLSClientConfig: rest.TLSClientConfig{CAData: h.CA}})
}

// Start starts the programs, the API server with further flags, by name
// without dashes, and waits until it is ready or ctx ends. Data, keys and logs are in a
// directory that it makes below dir; empty is the system's place.
func Start(ctx context.Context, dir string, flags map[string]string) (_ *ControlPlane, err error) {
	c := &ControlPlane{}
	if c.Handle.Assets, err = Programs(); err != nil {
		return nil, err
	}
	if c.dir, err = os.MkdirTemp(dir, "studio-go-runner-controlplane-*"); err != nil {
		return nil, err
	}
	if err = c.prepare(flags); err == nil {
		c.etcd, err = c.start("etcd", map[string]string{
			"unsafe-no-fsync": "true", "log-level": "warn", // the data need not survive a power cut
			"data-dir": "data", "listen-peer-urls": "unix://peer.sock", "listen-client-urls": socket, "advertise-client-urls": socket,
		})
	}
	if err == nil {
		err = c.StartAPIServer(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start control plane: %w", err), c.Close())
	}
	return c, nil
}

const (
	socket = "unix://etcd.sock" // what etcd listens on, in the directory of both programs
	issuer = "https://kubernetes.default.svc"
)

// prepare makes keys, and what clients need to know.
func (c *ControlPlane) prepare(flags map[string]string) error {
	address := Loopback()
	certificate, key, err := cert.GenerateSelfSignedCertKey(address, nil, nil)
	if err != nil {
		return err
	}
	if c.Handle.SigningKey, err = keyutil.MakeEllipticPrivateKeyPEM(); err != nil {
		return err
	}
	c.Handle.Server, c.Handle.CA, c.Handle.Token = "https://"+address+":6443", certificate, cryptorand.Text()
	for name, data := range map[string][]byte{
		"server.crt": certificate, "server.key": key, "accounts.key": c.Handle.SigningKey,
		"users": []byte(c.Handle.Token + ",e2e,e2e,system:masters\n"),
	} {
		if err := os.WriteFile(filepath.Join(c.dir, name), data, 0o600); err != nil {
			return err
		}
	}
	c.flags = map[string]string{
		"etcd-servers": socket, "bind-address": address, "secure-port": "6443",
		"tls-cert-file": "server.crt", "tls-private-key-file": "server.key", "token-auth-file": "users", "authorization-mode": "RBAC",
		"service-account-issuer": issuer, "service-account-key-file": "accounts.key", "service-account-signing-key-file": "accounts.key",
		"disable-admission-plugins": "ServiceAccount", // nobody makes the one that pods would have
		"service-cluster-ip-range":  "10.0.0.0/24", "delete-collection-workers": "8",
	}
	maps.Copy(c.flags, flags)
	c.Access, err = c.Handle.Connect()
	return err
}

// Loopback is an address of this machine that is free, and stays so while no server
// listens there: nobody asks for it, and clients are given ports of the usual one.
func Loopback() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
}

// start starts one of the programs. Its log goes on where that of the last one ended.
func (c *ControlPlane) start(name string, flags map[string]string) (*program.Program, error) {
	log, err := os.OpenFile(c.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(c.Handle.Assets, name), program.Flags(flags)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.dir, log, log
	return program.Start(cmd)
}

func (c *ControlPlane) log(name string) string { return filepath.Join(c.dir, name+".log") }

// Logs are those of the programs so far, by their names.
func (c *ControlPlane) Logs() map[string][]byte {
	logs := map[string][]byte{}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		logs[name], _ = os.ReadFile(c.log(name)) // none if it was not started
	}
	return logs
}

// StopAPIServer kills the API server, as a crash does. Clients of a server that
// is asked to stop would keep it waiting.
func (c *ControlPlane) StopAPIServer(context.Context) error {
	if c.server == nil {
		return errors.New("stop API server: it is stopped already")
	}
	c.server.Kill()
	c.server = nil
	return nil
}

// StartAPIServer starts it, or starts it again with the same address, keys and data,
// and waits until it is ready.
func (c *ControlPlane) StartAPIServer(ctx context.Context) (err error) {
	if c.server != nil {
		return errors.New("start API server: it is running already")
	}
	if c.server, err = c.start("kube-apiserver", c.flags); err == nil {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		// Its view of Roles and policies has to be complete. That takes 4 s on two idle
		// cores, and has no bound but that of ctx.
		err = kube.Poll(ctx, "it is ready", func() error {
			for _, p := range []*program.Program{c.etcd, c.server} {
				if p.HasEnded() {
					cancel(fmt.Errorf("%s has ended", p.Path))
				}
			}
			return c.Admin.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		})
	}
	if err != nil {
		const size = 2 << 10 // a few lines
		for name, log := range c.Logs() {
			err = fmt.Errorf("%w\n--- end of %s.log\n%s", err, name, log[max(0, len(log)-size):])
		}
		return fmt.Errorf("start API server: %w", err)
	}
	return nil
}

// Close ends both programs and removes their directory.
func (c *ControlPlane) Close() error {
	for _, p := range []*program.Program{c.server, c.etcd} {
		if p != nil {
			p.Kill() // nothing in it is worth a slow end
		}
	}
	return os.RemoveAll(c.dir)
}
