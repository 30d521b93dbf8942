// Package pgserver starts PostgreSQL servers for tests, from the programs of
// Debian's package postgresql or what else is installed: each in a directory of its
// own, reached by a socket in it, not a service of the system, and gone when the
// tests are, however they end.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience is how long the server may take for a step that it always ends. It is
// generous, because only a test that fails waits for so long.
const patience = time.Minute

// Hasty is the setting of a server that waits for no disk, which beside other work may
// take seconds, longer than a lease. What it had committed outlives its processes, as all
// that is written does, though not the machine.
const Hasty = "fsync=off"

// Server is one server. Its methods are for one goroutine. What other processes need
// to use its databases is plain data, which JSON carries to them.
type Server struct {
	// Dir is the server's, and nothing else's.
	Dir string
	// Settings are those that it starts with, as "ssl=on"; Port is that of its socket.
	Settings []string
	Port     int
	User     string // its owner

	bin   string              // where the programs are
	as    *syscall.Credential // whose process it is; nil for ours
	cmd   *exec.Cmd           // nil while it is stopped
	ended chan error
}

// Start makes an empty server and starts it.
func Start(settings ...string) (*Server, error) { return StartIn("", settings...) }

// StartIn makes it on the disk of a directory.
func StartIn(disk string, settings ...string) (*Server, error) {
	// The smallest files of the log, so that the server fits a small disk.
	return begin(disk, settings, "initdb", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "--wal-segsize=1")
}

// begin starts a server whose data a program makes.
func begin(disk string, settings []string, program string, args ...string) (*Server, error) {
	s, err := settle(disk)
	s.Settings = settings
	if err == nil {
		err = s.run(program, append(args, "-D", s.data())...)
	}
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL: %w", err), s.Close())
	}
	return s, nil
}

// settle gives a new directory to a server that is still to be made. The server refuses
// to be root's. Its port is only part of the socket's name.
func settle(disk string) (s *Server, err error) {
	s = &Server{Port: 5432}
	if s.bin, err = programs(); err != nil {
		return s, err
	}
	if s.Dir, err = os.MkdirTemp(disk, "pgserver-"); err != nil {
		return s, err
	}
	owner, err := user.Current()
	if err == nil && owner.Uid == "0" {
		if owner, err = user.Lookup("postgres"); err != nil {
			owner, err = user.Lookup("nobody")
		}
	}
	if err != nil {
		return s, err
	}
	s.User = owner.Username
	if os.Getuid() == 0 {
		uid, err1 := strconv.Atoi(owner.Uid)
		gid, err2 := strconv.Atoi(owner.Gid)
		err = errors.Join(err1, err2, os.Chown(s.Dir, uid, gid))
		s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return s, err
}

// run runs a program of the server's to its end.
func (s *Server) run(name string, args ...string) error {
	if text, err := s.command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, text)
	}
	return nil
}

// Put makes a file in the server's directory that only the server may read.
func (s *Server) Put(name string, content []byte) (path string, err error) {
	path = filepath.Join(s.Dir, name)
	err = os.WriteFile(path, content, 0o600)
	if s.as != nil {
		err = errors.Join(err, os.Chown(path, int(s.as.Uid), int(s.as.Gid)))
	}
	return path, err
}

// ErrMissing says that no server is installed.
var ErrMissing = errors.New("PostgreSQL is missing")

// programs finds the newest server that is installed.
func programs() (dir string, err error) {
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(found) > 0 {
		return filepath.Dir(slices.Max(found)), nil // versions have two digits
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", fmt.Errorf("%w (%w); install it: apt-get install postgresql", ErrMissing, err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	return filepath.Dir(path), nil
}

// command runs a program as the server's user, and not longer than the tests run. One
// without a path is of PostgreSQL.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	if !strings.Contains(name, "/") {
		name = filepath.Join(s.bin, name)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = s.Dir, []string{"PATH=/usr/bin:/bin", "TZ=UTC"}
	// On QUIT the server ends its own processes; by KILL they would notice later.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.as, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

func (s *Server) data() string { return filepath.Join(s.Dir, "data") }

// Start starts it again after Stop or Kill, with its data. After a Kill it may have
// to wait for what is left of itself.
func (s *Server) Start() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		args := []string{"-D", s.data(), "-k", s.Dir, "-p", strconv.Itoa(s.Port)}
		for _, setting := range append([]string{"listen_addresses=", "max_connections=200"}, s.Settings...) {
			args = append(args, "-c", setting)
		}
		err := s.start(ctx, s.command("postgres", args...))
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// start starts a process of the server, and waits until it answers.
func (s *Server) start(ctx context.Context, cmd *exec.Cmd) error {
	log, err := os.OpenFile(filepath.Join(s.Dir, "log"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	begin, _ := log.Seek(0, 2)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.ended = cmd, make(chan error, 1)
	go func() { s.ended <- cmd.Wait() }()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case ended := <-s.ended:
			s.cmd = nil
			text := make([]byte, 4<<10)
			n, _ := log.ReadAt(text, begin)
			return fmt.Errorf("the server ended: %w: %s", ended, text[:n])
		case <-ctx.Done():
			return errors.Join(err, s.Kill())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// URL names a database of the server, as its owner.
func (s *Server) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(s.User), Path: "/" + database, RawQuery: url.Values{"host": {s.Dir}, "port": {strconv.Itoa(s.Port)}}.Encode()}
	return u.String()
}

// Exec runs statements in a database as the server's owner.
func (s *Server) Exec(ctx context.Context, database, statements string) error {
	conn, err := pgx.Connect(ctx, s.URL(database))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statements)
	return errors.Join(err, conn.Close(ctx))
}

// Query reads one value from a database as the server's owner.
func (s *Server) Query(ctx context.Context, database, query string, to any) error {
	conn, err := pgx.Connect(ctx, s.URL(database))
	if err != nil {
		return err
	}
	return errors.Join(conn.QueryRow(ctx, query).Scan(to), conn.Close(ctx))
}

// Database makes an empty database and returns its URL.
func (s *Server) Database(ctx context.Context, name string) (string, error) {
	return s.URL(name), s.Exec(ctx, "postgres", "create database "+pgx.Identifier{name}.Sanitize())
}

// Stop ends it in good order, as a service does.
func (s *Server) Stop() error { return s.end(syscall.SIGINT) }

// Kill ends it with all its processes, and none of them says or writes anything more.
func (s *Server) Kill() error {
	if s.cmd == nil {
		return nil
	}
	pid := s.cmd.Process.Pid
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	err := s.end(syscall.SIGKILL)
	for _, word := range strings.Fields(string(children)) {
		if child, err := strconv.Atoi(word); err == nil {
			_ = syscall.Kill(child, syscall.SIGKILL) // it may have noticed already
		}
	}
	return err
}

func (s *Server) end(signal syscall.Signal) error {
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.ended: // the status of one that was told to end says nothing
		s.cmd = nil
		return nil
	case <-time.After(patience):
		return fmt.Errorf("PostgreSQL did not end within %s of %s", patience, signal)
	}
}

// Close ends it at once and removes its directory.
func (s *Server) Close() error {
	return errors.Join(s.end(syscall.SIGQUIT), os.RemoveAll(s.Dir))
}
