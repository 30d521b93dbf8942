package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Pair is a server with a standby that takes over when it fails, and the ways to
// both, which lead to them in turn. Its methods are for one goroutine.
type Pair struct {
	Primary, Standby *Server
	way, other       *Proxy
}

// StartPair starts both on the disk of a directory.
func StartPair(disk string) (p *Pair, err error) {
	p = &Pair{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if p.Primary, err = StartIn(disk, "max_wal_size=32MB", "wal_retrieve_retry_interval=100ms"); err != nil {
		return p, err
	}
	if p.Standby, err = p.Primary.standby(); err != nil {
		return p, err
	}
	if p.way, err = p.Primary.Proxy(); err == nil {
		p.other, err = p.Standby.Proxy()
	}
	return p, err
}

// standby starts a server that follows this one, beside it and with the same settings.
// From then on this one answers a commit when both have it, and keeps for it what it has
// missed: else a standby that was behind when this one starts again could never follow.
func (s *Server) standby() (*Server, error) {
	standby, err := begin(filepath.Dir(s.Dir), s.Settings,
		"pg_basebackup", "-d", s.URL("postgres"), "-R", "-C", "-S", "standby", "-c", "fast", "--no-sync")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, say := range []string{"alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"} {
		err = errors.Join(err, s.Exec(ctx, "postgres", say))
	}
	for state := ""; err == nil && state != "sync"; time.Sleep(10 * time.Millisecond) {
		err = s.Query(ctx, "postgres", "select coalesce(max(sync_state), '') from pg_stat_replication", &state)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("commit with the standby: %w", err), standby.Close())
	}
	return standby, nil
}

// URL names a database by way of both: of that which may be written to.
func (p *Pair) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(p.Primary.User), Host: p.way.Address() + "," + p.other.Address(), Path: "/" + database,
		RawQuery: "target_session_attrs=read-write"}
	return u.String()
}

// FailOver kills the server, and lets the standby take over.
func (p *Pair) FailOver() error {
	err := p.Primary.Kill()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = errors.Join(err, p.Standby.Exec(ctx, "postgres", "select pg_promote()"))
	p.Primary, p.Standby, p.way, p.other = p.Standby, p.Primary, p.other, p.way
	return err
}

// renew makes a standby of what is left of the server of before.
func (p *Pair) renew() error {
	err := p.Standby.Close()
	if p.Standby = nil; err == nil {
		p.Standby, err = p.Primary.standby()
	}
	if err == nil {
		p.other.To(p.Standby)
	}
	return err
}

// Close ends both and removes their directories.
func (p *Pair) Close() (err error) {
	for _, proxy := range []*Proxy{p.way, p.other} {
		if proxy != nil {
			err = errors.Join(err, proxy.Close())
		}
	}
	for _, s := range []*Server{p.Standby, p.Primary} {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}
	return err
}

// Fault is what may become of a pair.
type Fault struct {
	Name  string
	Small bool // the pair must have a small disk of its own
	// Strike lets it happen, and mends it when last has returned.
	Strike func(p *Pair, last func()) error
}

// Faults are all that the queue in a server is tried with.
var Faults = []Fault{
	{"killed", false, func(p *Pair, last func()) error {
		err := p.Primary.Kill()
		last()
		return errors.Join(err, p.Primary.Start())
	}},
	{"stopped", false, func(p *Pair, last func()) error {
		err := p.Primary.Stop()
		last()
		return errors.Join(err, p.Primary.Start())
	}},
	{"cut", false, func(p *Pair, last func()) error {
		p.way.Cut()
		last()
		p.way.Restore()
		return nil
	}},
	{"full", true, func(p *Pair, last func()) error {
		filler := filepath.Join(filepath.Dir(p.Primary.Dir), "filler")
		err := Fill(filler)
		last()
		err = errors.Join(err, os.Remove(filler))
		for _, s := range []*Server{p.Primary, p.Standby} { // if they have not given up by themselves
			err = errors.Join(err, s.Kill(), s.Start())
		}
		return err
	}},
	{"failed-over", false, func(p *Pair, last func()) error {
		err := p.FailOver()
		last()
		return errors.Join(err, p.renew())
	}},
}

// Fill takes all room of the disk of a new file.
func Fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	size := int64(0)
	for step := int64(64 << 20); step >= 4<<10; { // what somebody frees meanwhile is taken as well
		if err = unix.Fallocate(int(f.Fd()), 0, size, step); err == nil {
			size += step
		} else {
			step /= 2
		}
	}
	if errors.Is(err, unix.ENOSPC) {
		return nil
	}
	return err
}
