package embedded

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// proxy passes TCP connections on and can break them.
type proxy struct {
	server string          // the API server
	front  *front          // before it, for what only HTTP can say
	port   *port           // ours while the proxy does not listen, too
	ctx    context.Context // ends with close
	cancel context.CancelFunc
	all    sync.WaitGroup // all goroutines of the proxy

	mu       sync.Mutex
	upstream string        // server, or front's address
	listener net.Listener  // nil while the network is cut
	dropped  chan struct{} // closed when packets pass again, nil while they do
	limit    time.Duration // lifetime of each connection, 0 = none
	conns    map[*passage]struct{}
}

// newProxy listens on the loopback interface for connections to the API server
// at host, whose certificate ca has signed.
func newProxy(host string, ca []byte) (*proxy, error) {
	server, err := url.Parse(host)
	if err != nil {
		return nil, err
	}
	p := &proxy{server: server.Host, upstream: server.Host, conns: map[*passage]struct{}{}}
	if p.port, err = reservePort(); err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if p.front, err = newFront(host, ca); err == nil {
		err = p.set(scenario.Network{Mode: "restore"})
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	return p, nil
}

// set makes the network so, for connections that are open and for new ones.
func (p *proxy) set(n scenario.Network) error {
	if n.Mode != "" && n.Mode != "restore" && n.Mode != "cut" && n.Mode != "drop" {
		return fmt.Errorf("set network: the mode is %q, and must be restore, cut or drop", n.Mode)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.front.set(n)
	// Once there, the front stays: going back would end connections.
	around := (n.Answer > 0 || n.Late > 0) && p.upstream == p.server
	if around {
		p.upstream = p.front.address()
	}
	p.limit = time.Duration(n.Limit)
	for pass := range p.conns {
		if around || n.Mode == "cut" {
			pass.end()
		}
		pass.lives(p.limit)
	}
	if dropping := p.dropped != nil; dropping && n.Mode != "drop" {
		close(p.dropped)
		p.dropped = nil
	} else if !dropping && n.Mode == "drop" {
		p.dropped = make(chan struct{})
	}
	return p.listen(n.Mode != "cut")
}

// listen begins or ends to take connections; p.mu is held.
func (p *proxy) listen(wanted bool) error {
	if wanted == (p.listener != nil) {
		return nil
	}
	if !wanted {
		listener := p.listener
		p.listener = nil
		return listener.Close()
	}
	listener, err := p.port.listen(p.ctx)
	if err != nil {
		return fmt.Errorf("restore network: %w", err)
	}
	p.listener = listener
	p.all.Go(func() { p.accept(listener) })
	return nil
}

// accept takes connections until the listener is closed.
func (p *proxy) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // nothing else than closing ends a listener on the loopback
		}
		p.all.Go(func() { p.serve(client) })
	}
}

// serve passes one connection on until either side ends it.
func (p *proxy) serve(client net.Conn) {
	pass := &passage{client: client, began: time.Now(), over: make(chan struct{})}
	defer pass.end()
	if !p.add(pass) {
		return
	}
	defer p.remove(pass)
	if !p.passes(pass) {
		return
	}
	p.mu.Lock()
	upstream := p.upstream
	p.mu.Unlock()
	// Longer than any answer on the loopback takes; a stopped server refuses at once.
	dialer := net.Dialer{Timeout: 5 * time.Second}
	server, err := dialer.DialContext(p.ctx, "tcp", upstream)
	if err != nil {
		return
	}
	defer server.Close()
	p.all.Go(func() {
		defer pass.end()
		p.copy(server, client, pass)
	})
	p.all.Go(func() {
		defer pass.end()
		p.copy(client, server, pass)
	})
	<-pass.over
}

// copy passes packets on; that one side has ended is a packet, too.
func (p *proxy) copy(to, from net.Conn, pass *passage) {
	packet := make([]byte, 32<<10)
	for {
		n, err := from.Read(packet)
		if !p.passes(pass) {
			return
		}
		if _, failed := to.Write(packet[:n]); failed != nil || err != nil {
			return
		}
	}
}

// passes waits while packets are dropped: as with real ones, which are sent
// again and again, nothing is lost of a connection that outlives that. It says
// whether this one has.
func (p *proxy) passes(pass *passage) bool {
	p.mu.Lock()
	dropped := p.dropped
	p.mu.Unlock()
	if dropped == nil {
		return true
	}
	select {
	case <-dropped:
		return true
	case <-pass.over:
		return false
	}
}

// add notes a connection, unless the network was cut in the meantime.
func (p *proxy) add(pass *passage) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return false
	}
	p.conns[pass] = struct{}{}
	pass.lives(p.limit)
	return true
}

// remove forgets a connection.
func (p *proxy) remove(pass *passage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, pass)
}

// close ends the proxy with all its connections.
func (p *proxy) close() {
	p.cancel()
	if p.front != nil {
		_ = p.set(scenario.Network{Mode: "cut"}) // closing has no error that matters
		p.all.Wait()
		p.front.close()
	}
	p.port.release()
}

// passage is one connection through the proxy.
type passage struct {
	client net.Conn
	began  time.Time
	over   chan struct{} // closed by end
	once   sync.Once
}

// lives sets how long it does, 0 for ever: reading from it fails after that.
func (pass *passage) lives(d time.Duration) {
	end := time.Time{}
	if d > 0 {
		end = pass.began.Add(d)
	}
	_ = pass.client.SetReadDeadline(end) // it may have ended
}

// end breaks the connection the hard way, as a broken network does.
func (pass *passage) end() {
	pass.once.Do(func() {
		if tcp, ok := pass.client.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		pass.client.Close()
		close(pass.over)
	})
}
