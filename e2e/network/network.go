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
	"time"
)

// Network is what lies between the runners and the API server: a server that TLS
// ends at, on connections that can be broken. It passes requests on, or answers
// them itself.
type Network struct {
	URL         string // where clients reach the API server through it
	Certificate []byte // that they have to trust, as PEM

	server *httptest.Server
	api    *http.Transport // to the API server

	mu      sync.Mutex
	is      Fault
	changed sync.Cond
	conns   map[*conn]struct{} // those that are not broken
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
	n.changed.L = &n.mu
	n.api = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	n.server = httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     n,
		FlushInterval: -1, // at once: a watch is a stream
		ErrorLog:      quiet,
		// Without an API server there is no answer either.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	})
	n.server.Listener = listener{n.server.Listener, n}
	n.server.EnableHTTP2 = true
	n.server.Config.ErrorLog = quiet
	n.server.StartTLS()
	n.URL, n.Certificate = n.server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: n.server.Certificate().Raw})
	return n, nil
}

// SetNetwork makes it so, for connections that are open and for new ones.
func (n *Network) SetNetwork(is Fault) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.is = is
	for c := range n.conns {
		c.suffer()
		if is.Answer > 0 || is.Late > 0 {
			c.end() // streams of before would go on beside other answers
		}
	}
	n.changed.Broadcast()
	return nil
}

// RoundTrip answers a request, or passes it on and holds the head of the answer back.
func (n *Network) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	is := n.is
	n.mu.Unlock()
	if is.Answer > 0 {
		w := httptest.NewRecorder()
		if is.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(time.Duration(is.RetryAfter).Seconds()))))
		}
		http.Error(w, http.StatusText(is.Answer), is.Answer)
		return w.Result(), nil
	}
	response, err := n.api.RoundTrip(r)
	select {
	case <-time.After(time.Duration(is.Late)):
	case <-r.Context().Done():
	}
	return response, err
}

// Close ends it with all its connections.
func (n *Network) Close() error {
	_ = n.SetNetwork(Fault{Mode: "cut"}) // streams would keep the server
	n.server.Close()
	n.api.CloseIdleConnections()
	return nil
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
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	l.network.conns[c] = struct{}{}
	c.suffer()
	return c, nil
}

// conn is one connection of a runner.
type conn struct {
	net.Conn
	network *Network
	began   time.Time
}

// suffer has a connection be as the network is, whose mutex is locked.
func (c *conn) suffer() {
	if c.network.is.Mode == "cut" {
		c.end()
	} else if limit := c.network.is.Limit; limit > 0 {
		time.AfterFunc(time.Duration(limit)-time.Since(c.began), func() {
			c.network.mu.Lock()
			defer c.network.mu.Unlock()
			if c.network.is.Limit == limit {
				c.end()
			}
		})
	}
}

// end breaks the connection the hard way, as a broken network does. The mutex is locked.
func (c *conn) end() {
	delete(c.network.conns, c)
	_ = c.Conn.(*net.TCPConn).SetLinger(0)
	c.Conn.Close()
}

// passes waits while packets are dropped: as with real ones, which are sent again
// and again, nothing is lost of a connection that outlives that. It is an error if
// this one has not.
func (c *conn) passes() error {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	for c.network.is.Mode == "drop" {
		c.network.changed.Wait()
	}
	if _, open := c.network.conns[c]; !open {
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

// Close is the server's, also for a connection that was broken.
func (c *conn) Close() error {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	delete(c.network.conns, c)
	return c.Conn.Close()
}
