package observe

import (
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

const (
	requestLimit = 5 * time.Second  // for a request to arrive
	idleLimit    = 30 * time.Second // of a connection; longer than probes and scrapes are apart
	writeLimit   = 10 * time.Second // a client that stopped reading must not hold up the exit
)

// maxConnections is how many connections there may be: enough for probes, a few
// scrapers and the curious, and no more than a part of what the process may open.
func maxConnections() int {
	const most, part = 128, 4
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return most
	}
	return int(min(most, max(files.Cur/part, 2)))
}

// NewServer serves the handler with bounds on everything that a client could
// make the runner hold.
func NewServer(handler http.Handler, log *slog.Logger) *http.Server {
	c := &connections{most: maxConnections(), waiting: make(map[net.Conn]time.Time)}
	return &http.Server{
		Handler: handler, ConnState: c.changed, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ReadTimeout: requestLimit, WriteTimeout: writeLimit, IdleTimeout: idleLimit, MaxHeaderBytes: 16 << 10,
	}
}

// connections makes room for a new connection by closing the one that has waited
// longest for its client: a probe must get through, whoever holds the others.
type connections struct {
	most int

	mu      sync.Mutex
	waiting map[net.Conn]time.Time // since when for a request; zero while one is served
}

func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew, http.StateIdle:
		c.waiting[conn] = time.Now()
	case http.StateActive:
		c.waiting[conn] = time.Time{}
	default:
		delete(c.waiting, conn)
	}
	if state != http.StateNew || len(c.waiting) <= c.most {
		return
	}
	oldest := conn // itself, if all others are served
	for other, since := range c.waiting {
		if !since.IsZero() && since.Before(c.waiting[oldest]) {
			oldest = other
		}
	}
	delete(c.waiting, oldest)
	_ = oldest.Close() // its goroutine finds out
}
