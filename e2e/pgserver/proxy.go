package pgserver

import (
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
	all      sync.WaitGroup

	mu     sync.Mutex
	server *Server
	open   chan struct{} // closed while packets pass
	conns  map[net.Conn]bool
	over   bool
}

// Proxy begins to pass connections on.
func (s *Server) Proxy() (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, open: make(chan struct{}), conns: make(map[net.Conn]bool)}
	p.To(s)
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
	if !p.keep(client) {
		return
	}
	server, err := net.Dial("unix", p.wait())
	if err != nil || !p.keep(server) {
		client.Close()
		return
	}
	p.all.Go(func() { p.pass(server, client) })
	p.pass(client, server)
}

// keep has the connection closed with the proxy.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		c.Close()
	}
	p.conns[c] = true
	return !p.over
}

// wait waits until packets pass, and says where to.
func (p *Proxy) wait() (socket string) {
	p.mu.Lock()
	open, s := p.open, p.server
	p.mu.Unlock()
	<-open
	return filepath.Join(s.Dir, ".s.PGSQL."+strconv.Itoa(s.Port))
}

func (p *Proxy) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	packet := make([]byte, 16<<10)
	for {
		n, err := from.Read(packet)
		p.wait()
		if _, fault := to.Write(packet[:n]); fault != nil || err != nil {
			return
		}
	}
}

// Close ends all connections.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.mu.Lock()
	p.over = true
	for c := range p.conns {
		c.Close()
	}
	select {
	case <-p.open:
	default:
		close(p.open)
	}
	p.mu.Unlock()
	p.all.Wait()
	return err
}
