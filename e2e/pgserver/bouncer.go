package pgserver

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

// Bouncer starts Debian's pgbouncer in transaction mode before a server: a connection
// is lent for a transaction, and who listens hears nothing. It lends at most so many
// connections of the server. What it returns is like a server, but starts once.
func (s *Server) Bouncer(connections int) (*Server, error) {
	b, err := settle(filepath.Dir(s.Dir))
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	config, err := b.Put("pgbouncer.ini", fmt.Appendf(nil, `[databases]
* = host=%s port=%d user=%s
[pgbouncer]
listen_addr =
listen_port = %d
unix_socket_dir = %s
auth_type = any
pool_mode = transaction
default_pool_size = %d
max_client_conn = 2000
`, s.Dir, s.Port, s.User, b.Port, b.Dir, connections))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err == nil {
		err = b.start(ctx, b.command("/usr/sbin/pgbouncer", "-q", config))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w; it is there after: apt-get install pgbouncer", err), b.Close())
	}
	return b, nil
}
