package pgserver

import (
	"context"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
)

// Proxy is a way to a server through the network that can be cut: then packets are
// dropped, and no side hears of it.
type Proxy struct {
	listener net.Listener
	over     context.Context
	end      context.CancelFunc
	all      sync.WaitGroup

	mu     sync.Mutex
	server *Server
	open   chan struct{} // closed while packets pass
}

// Proxy begins to pass connections on.
func (s *Server) Proxy() (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, server: s, open: make(chan struct{})}
	p.over, p.end = context.WithCancel(context.Background())
	close(p.open)
	p.all.Go(p.accept)
	return p, nil
}

// To leads new connections to another server.
func (p *Proxy) To(s *Server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server = s
}

// Address is that of the server, through the proxy.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// URL names a database of the server, through the proxy.
func (p *Proxy) URL(database string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := url.URL{Scheme: "postgres", User: url.User(p.server.User), Host: p.Address(), Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Cut drops all packets until Restore.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = make(chan struct{})
}

// Restore lets packets pass, also those that were sent meanwhile, as TCP repeats them.
func (p *Proxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.open)
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // it was closed
		}
		p.all.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", p.wait())
	if err != nil {
		return
	}
	defer context.AfterFunc(p.over, func() {
		client.Close()
		server.Close()
	})()
	p.all.Go(func() { p.pass(server, client) })
	p.pass(client, server)
}

// wait waits until packets pass or the proxy ends, and says where to.
func (p *Proxy) wait() (socket string) {
	p.mu.Lock()
	open, s := p.open, p.server
	p.mu.Unlock()
	select {
	case <-open:
	case <-p.over.Done():
	}
	return filepath.Join(s.Dir, ".s.PGSQL."+strconv.Itoa(s.Port))
}

// pass ends both directions when it ends. What a cut has held back is dropped for good
// when the proxy ends.
func (p *Proxy) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	packet := make([]byte, 16<<10)
	for {
		n, err := from.Read(packet)
		p.wait()
		if err != nil || p.over.Err() != nil {
			return
		}
		if _, err := to.Write(packet[:n]); err != nil {
			return
		}
	}
}

// Close ends all connections.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.end()
	p.all.Wait()
	return err
}
