package postgres_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/postgres"
)

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	file        string // of the certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: t.Name()}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	a := authority{key: key, file: filepath.Join(t.TempDir(), "authority.pem")}
	a.certificate, err = x509.ParseCertificate(der)
	must(t, err)
	must(t, os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	return a
}

// sign makes a certificate for a server at an address, and its key.
func (a authority) sign(t *testing.T, address string) (certificate, key []byte) {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(address)}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, signer.Public(), a.key)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(signer)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// What a server answers to a wrong password is said once, with what to do, and nothing
// of the ways to it that failed before.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	s, err := pgserver.Start()
	must(t, err)
	t.Cleanup(func() { s.Close() })
	must(t, s.Exec(t.Context(), "postgres", "create role locked login password 'right'"))
	_, err = s.Put("data/pg_hba.conf", []byte("local all locked scram-sha-256\nlocal all all trust\n"))
	must(t, err)
	direct := newQueue(t, s)
	must(t, s.Stop()) // a reload would be told, and done some time later
	must(t, s.Start())
	way, err := s.Proxy()
	must(t, err)
	t.Cleanup(func() { way.Close() })
	u, _ := url.Parse(through(direct, way))
	for _, password := range []string{"wrong", ""} {
		u.User = url.UserPassword("locked", password)
		_, _, inInit := postgres.Init(t.Context(), u.String())
		_, here := postgres.Open(u.String(), postgres.Options{})
		_, inRunner := postgres.Open(u.String(), postgres.Options{Runner: "runner"})
		for _, err := range []error{inInit, here, inRunner} {
			if err == nil || strings.Contains(err.Error(), "tls") || strings.Contains(err.Error(), "\n") || strings.Count(err.Error(), "password authentication failed") != 1 ||
				!strings.HasSuffix(err.Error(), "the password must be in the file that PGPASSFILE names, or in PGPASSWORD, or with the URL in STUDIOML_QUEUE") {
				t.Errorf("with password %q: %v", password, err)
			}
		}
	}
}

// Nor is anything said twice, because it is so for each way to the server.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	_, err := postgres.Open("postgres://fleet@127.0.0.1:1/tasks", postgres.Options{})
	if err == nil || strings.Count(err.Error(), "connection refused") != 1 {
		t.Errorf("%v; want once that the connection was refused", err)
	}
}

// reserve keeps a port for who binds it with SO_REUSEADDR, as servers do, and from all
// who ask for any.
func reserve(t *testing.T) (port int) {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(socket) })
	must(t, unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	must(t, unix.Bind(socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	bound, err := unix.Getsockname(socket)
	must(t, err)
	return bound.(*unix.SockaddrInet4).Port
}

// A server proves who it is, or no runner speaks with it.
func TestTLS(t *testing.T) {
	t.Parallel()
	s, err := pgserver.Start()
	must(t, err)
	t.Cleanup(func() { s.Close() })
	direct := newQueue(t, s)
	ours, theirs := newAuthority(t), newAuthority(t)
	certificate, key := ours.sign(t, "127.0.0.1")
	certificateFile, err := s.Put("server.pem", certificate)
	must(t, err)
	keyFile, err := s.Put("server.key", key)
	must(t, err)
	must(t, s.Stop())
	s.Port = reserve(t)
	s.Settings = []string{"listen_addresses=127.0.0.1,127.0.0.2", "ssl=on", "ssl_cert_file=" + certificateFile, "ssl_key_file=" + keyFile}
	must(t, s.Start())

	at := func(address, mode string, trusted authority) string {
		u, _ := url.Parse(direct)
		u.Host = fmt.Sprintf("%s:%d", address, s.Port)
		u.RawQuery = url.Values{"sslmode": {mode}, "sslrootcert": {trusted.file}}.Encode()
		return u.String()
	}
	f := &fixture{owner: open(t, at("127.0.0.1", "verify-full", ours), "")}
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	q := open(t, at("127.0.0.1", "verify-full", ours), "runner")
	must(t, finish(t, fetch(t, q), 1, api.Succeeded))
	if n := f.owner.Count(t, "select count(*) from pg_stat_ssl join pg_stat_activity using (pid) where datname = current_database() and not ssl"); n > 0 {
		t.Errorf("%d connections are not encrypted", n)
	}
	for _, refused := range []struct{ what, url, says string }{
		{"another authority", at("127.0.0.1", "verify-full", theirs), "certificate signed by unknown authority"},
		{"another authority, the name does not matter", at("127.0.0.1", "verify-ca", theirs), "certificate signed by unknown authority"},
		{"another server", at("127.0.0.2", "verify-full", ours), "certificate is valid for 127.0.0.1, not 127.0.0.2"},
	} {
		for _, runner := range []string{"", "runner"} {
			q, err := postgres.Open(refused.url, postgres.Options{Runner: runner})
			if err == nil {
				q.Close()
			}
			if err == nil || !strings.Contains(err.Error(), refused.says) || strings.Contains(err.Error(), "\n") || strings.Count(err.Error(), "sslrootcert") != 1 {
				t.Errorf("%s: %v; want one line with %q, and what to do", refused.what, err, refused.says)
			}
		}
	}
}
