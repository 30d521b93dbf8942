package embedded

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// proxy passes TCP connections on and can break them.
type proxy struct {
	upstream string
	port     *port           // ours while the proxy does not listen, too
	ctx      context.Context // ends with close
	cancel   context.CancelFunc
	wg       sync.WaitGroup // all goroutines of the proxy

	mu       sync.Mutex
	listener net.Listener  // nil while the network is cut
	limit    time.Duration // lifetime of each connection, 0 = none
	conns    map[*passage]struct{}
}

// passage is one connection through the proxy.
type passage struct {
	client, server net.Conn
	began          time.Time
	timer          *time.Timer // ends the passage, nil without a limit
}

// newProxy listens on the loopback interface for connections to upstream.
func newProxy(upstream string) (*proxy, error) {
	port, err := reservePort()
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &proxy{upstream: upstream, port: port, ctx: ctx, cancel: cancel, conns: map[*passage]struct{}{}}
	if err := p.RestoreNetwork(); err != nil {
		p.close()
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	return p, nil
}

// address is where the proxy listens.
func (p *proxy) address() string { return p.port.address() }

// accept takes connections until the listener is closed.
func (p *proxy) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // nothing else than closing ends a listener on the loopback
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

// serve passes one connection on until either side ends it.
func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	// Longer than any answer on the loopback takes; a stopped server refuses at once.
	dialer := net.Dialer{Timeout: 5 * time.Second}
	server, err := dialer.DialContext(p.ctx, "tcp", p.upstream)
	if err != nil {
		reset(client)
		return
	}
	pass := &passage{client: client, server: server, began: time.Now()}
	defer pass.end()
	if !p.add(pass) {
		return
	}
	defer p.remove(pass)

	done := make(chan struct{}, 2)
	pipe := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // the reason does not matter: both sides are ended
		done <- struct{}{}
	}
	p.wg.Go(func() { pipe(server, client) })
	p.wg.Go(func() { pipe(client, server) })
	<-done
}

// add notes a connection, unless the network was cut in the meantime.
func (p *proxy) add(pass *passage) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return false
	}
	p.conns[pass] = struct{}{}
	pass.limit(p.limit)
	return true
}

// remove forgets a connection.
func (p *proxy) remove(pass *passage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pass.limit(0)
	delete(p.conns, pass)
}

// CutNetwork ends all connections and has new ones refused.
func (p *proxy) CutNetwork() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return nil
	}
	p.listener.Close()
	p.listener = nil
	for pass := range p.conns {
		pass.end()
	}
	return nil
}

// RestoreNetwork ends what CutNetwork began.
func (p *proxy) RestoreNetwork() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return nil
	}
	listener, err := p.port.listen(p.ctx)
	if err != nil {
		return fmt.Errorf("restore network: %w", err)
	}
	p.listener = listener
	p.wg.Go(func() { p.accept(listener) })
	return nil
}

// LimitConnections ends each connection, the present ones too, when it is d
// old; 0 takes the limit away.
func (p *proxy) LimitConnections(d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("limit connections: duration is %s, allowed is 0 or more", d)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = d
	for pass := range p.conns {
		pass.limit(d)
	}
	return nil
}

// close ends the proxy with all its connections.
func (p *proxy) close() {
	p.cancel()
	_ = p.CutNetwork() // it has no error
	p.wg.Wait()
	p.port.release()
}

// limit sets the lifetime; the proxy's lock is held.
func (pass *passage) limit(d time.Duration) {
	if pass.timer != nil {
		pass.timer.Stop()
		pass.timer = nil
	}
	if d > 0 {
		pass.timer = time.AfterFunc(time.Until(pass.began.Add(d)), pass.end)
	}
}

// end breaks the connection on both sides.
func (pass *passage) end() {
	reset(pass.client)
	pass.server.Close()
}

// reset closes a connection the hard way, as a broken network does.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}
