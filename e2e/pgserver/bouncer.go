package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Bouncer is Debian's pgbouncer in transaction mode before a server: a connection is
// lent for a transaction, and who listens hears nothing.
type Bouncer struct {
	server *Server
	cmd    *exec.Cmd
}

// Bouncer starts one, whose socket has the port behind the server's. It lends at most
// so many connections of the server.
func (s *Server) Bouncer(connections int) (*Bouncer, error) {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer" // which is in the path of administrators
	}
	config, err := s.Put("pgbouncer.ini", fmt.Appendf(nil, `[databases]
* = host=%[1]s port=%[2]d user=%[3]s
[pgbouncer]
listen_addr =
listen_port = %[4]d
unix_socket_dir = %[1]s
auth_type = any
pool_mode = transaction
default_pool_size = %[5]d
max_client_conn = 2000
`, s.Dir, s.Port, s.User, s.Port+1, connections))
	if err != nil {
		return nil, err
	}
	b := &Bouncer{s, s.command(program, "-q", config)}
	b.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	log, err := os.Create(filepath.Join(s.Dir, "pgbouncer.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	b.cmd.Stdout, b.cmd.Stderr = log, log
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w; install it: apt-get install pgbouncer", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, b.URL("postgres"))
		if err == nil {
			return b, conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			text, _ := os.ReadFile(log.Name())
			return nil, errors.Join(fmt.Errorf("start pgbouncer: %w: %s", err, text), b.Close())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// URL names a database of the server, through the pooler.
func (b *Bouncer) URL(database string) string {
	u, _ := url.Parse(b.server.URL(database))
	q := u.Query()
	q.Set("port", strconv.Itoa(b.server.Port+1))
	u.RawQuery = q.Encode()
	return u.String()
}

// Close ends it.
func (b *Bouncer) Close() error {
	err := b.cmd.Process.Kill()
	b.cmd.Wait() // which says that it was killed
	return err
}
