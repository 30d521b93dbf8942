// Package network is what lies between clients and an API server, and can be broken.
package network

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Network is what lies between the runners and the API server: a server that TLS
// ends at, on connections that can be broken. It passes requests on, or answers
// them itself.
type Network struct {
	server *httptest.Server
	pass   *httputil.ReverseProxy
	open   sync.RWMutex // locked while packets are dropped

	mu    sync.Mutex
	is    Fault
	conns map[*conn]struct{}
}

// New listens on the loopback interface for requests to the API server at
// host, whose certificate ca has signed.
func New(host string, ca []byte) (*Network, error) {
	target, err := url.Parse(host)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	quiet := log.New(io.Discard, "", 0) // broken connections are what the tests are about
	n := &Network{conns: map[*conn]struct{}{}}
	n.pass = &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:      &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true},
		FlushInterval:  -1, // at once: a watch is a stream
		ErrorLog:       quiet,
		ModifyResponse: n.hold,
		// Without an API server there is no answer either.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	n.server = httptest.NewUnstartedServer(n)
	n.server.Listener = listener{n.server.Listener, n}
	n.server.EnableHTTP2 = true
	n.server.Config.ErrorLog = quiet
	n.server.StartTLS()
	return n, nil
}

// URL is where clients reach the API server through it.
func (n *Network) URL() string { return n.server.URL }

// Certificate is what clients have to trust, as PEM.
func (n *Network) Certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: n.server.Certificate().Raw})
}

// Set makes the network so, for connections that are open and for new ones.
func (n *Network) Set(is Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	dropped := n.is.Mode == "drop"
	n.is = is
	for c := range n.conns {
		c.suffer(is)
		if is.Answer > 0 || is.Late > 0 {
			c.end() // streams of before would go on beside other answers
		}
	}
	if drop := is.Mode == "drop"; drop && !dropped {
		n.open.Lock()
	} else if dropped && !drop {
		n.open.Unlock()
	}
}

func (n *Network) now() Fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.is
}

// ServeHTTP answers, or passes the request on.
func (n *Network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	is := n.now()
	if is.Answer == 0 {
		n.pass.ServeHTTP(w, r)
		return
	}
	if is.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(time.Duration(is.RetryAfter).Seconds()))))
	}
	http.Error(w, http.StatusText(is.Answer), is.Answer)
}

// hold holds the head of an answer back.
func (n *Network) hold(response *http.Response) error {
	is := n.now()
	late := time.NewTimer(time.Duration(is.Late))
	defer late.Stop()
	select {
	case <-late.C:
		return nil
	case <-response.Request.Context().Done():
		return response.Request.Context().Err()
	}
}

// listener has connections suffer from the network.
type listener struct {
	net.Listener
	network *Network
}

// Accept is that of a net.Listener.
func (l listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, network: l.network, began: time.Now()}
	c.limit = time.AfterFunc(math.MaxInt64, c.end)
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	l.network.conns[c] = struct{}{}
	c.suffer(l.network.is)
	return c, nil
}

// Close ends it with all its connections.
func (n *Network) Close() {
	n.Set(Fault{Mode: "cut"}) // streams would keep the server
	n.server.Close()
	n.pass.Transport.(*http.Transport).CloseIdleConnections()
}

// conn is one connection of a runner.
type conn struct {
	net.Conn
	network *Network
	began   time.Time
	limit   *time.Timer // ends it
	ended   atomic.Bool
}

// suffer has a connection be as the network is.
func (c *conn) suffer(is Fault) {
	limit := time.Duration(is.Limit)
	if limit == 0 {
		limit = math.MaxInt64
	}
	c.limit.Reset(limit - time.Since(c.began))
	if is.Mode == "cut" {
		c.end()
	}
}

// passes waits while packets are dropped: as with real ones, which are sent again
// and again, nothing is lost of a connection that outlives that. It is an error if
// this one has not.
func (c *conn) passes() error {
	c.network.open.RLock()
	defer c.network.open.RUnlock()
	if c.ended.Load() {
		return net.ErrClosed
	}
	return nil
}

// Read reads what has passed; that the other side has ended is a packet, too.
func (c *conn) Read(data []byte) (int, error) {
	n, err := c.Conn.Read(data)
	if ended := c.passes(); ended != nil {
		return 0, ended
	}
	return n, err
}

func (c *conn) Write(data []byte) (int, error) {
	if err := c.passes(); err != nil {
		return 0, err
	}
	return c.Conn.Write(data)
}

// end breaks the connection the hard way, as a broken network does.
func (c *conn) end() {
	c.ended.Store(true)
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Conn.Close()
}

// Close is the server's, also for a connection that was broken.
func (c *conn) Close() error {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	delete(c.network.conns, c)
	c.limit.Stop()
	c.ended.Store(true)
	return c.Conn.Close()
}
