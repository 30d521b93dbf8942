package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Standby starts a server that follows this one. From then on this one answers a
// commit when both have it. It has the same settings, in a directory beside.
func (s *Server) Standby() (*Server, error) {
	dir, err := os.MkdirTemp(filepath.Dir(s.Dir), "pgserver-")
	if err != nil {
		return nil, err
	}
	standby, err := settle(dir)
	standby.Settings = s.Settings
	if err == nil {
		err = standby.run("pg_basebackup", "-D", standby.data(), "-d", s.URL("postgres"), "-R", "-c", "fast", "--no-sync")
	}
	if err == nil {
		err = standby.Start()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, say := range []string{"alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"} {
		if err == nil {
			err = s.Exec(ctx, "postgres", say)
		}
	}
	for state := ""; err == nil && state != "sync"; time.Sleep(10 * time.Millisecond) {
		err = s.Query(ctx, "postgres", "select coalesce(max(sync_state), '') from pg_stat_replication", &state)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a standby: %w", err), standby.Close())
	}
	return standby, nil
}

// Promote makes of a standby the server to write to.
func (s *Server) Promote() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.Exec(ctx, "postgres", "select pg_promote()")
}
