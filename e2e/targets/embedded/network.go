package embedded

import (
	"context"
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

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// network is what lies between the runners and the API server: a server that TLS
// ends at, on connections that can be broken. It passes requests on, or answers
// them itself.
type network struct {
	net.Listener
	server *httptest.Server
	pass   *httputil.ReverseProxy

	mu      sync.Mutex
	is      scenario.Network
	dropped chan struct{} // closed when packets pass again, nil while they do
	conns   map[*conn]struct{}
}

// newNetwork listens on the loopback interface for requests to the API server at
// host, whose certificate ca has signed.
func newNetwork(host string, ca []byte) (*network, error) {
	target, err := url.Parse(host)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	quiet := log.New(io.Discard, "", 0) // broken connections are what the tests are about
	n := &network{conns: map[*conn]struct{}{}}
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
	n.Listener, n.server.Listener = n.server.Listener, n
	n.server.EnableHTTP2 = true
	n.server.Config.ErrorLog = quiet
	n.server.StartTLS()
	return n, nil
}

// certificate is what clients have to trust, as PEM.
func (n *network) certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: n.server.Certificate().Raw})
}

// set makes the network so, for connections that are open and for new ones.
func (n *network) set(is scenario.Network) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.is = is
	for c := range n.conns {
		// Streams of before would go on beside other answers.
		if is.Mode == "cut" || is.Answer > 0 || is.Late > 0 {
			c.end()
		}
		c.lives(time.Duration(is.Limit))
	}
	if dropping := n.dropped != nil; dropping && is.Mode != "drop" {
		close(n.dropped)
		n.dropped = nil
	} else if !dropping && is.Mode == "drop" {
		n.dropped = make(chan struct{})
	}
}

func (n *network) now() (is scenario.Network, dropped chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.is, n.dropped
}

// ServeHTTP answers, or passes the request on.
func (n *network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	is, _ := n.now()
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
func (n *network) hold(response *http.Response) error {
	is, _ := n.now()
	late := time.NewTimer(time.Duration(is.Late))
	defer late.Stop()
	select {
	case <-late.C:
		return nil
	case <-response.Request.Context().Done():
		return response.Request.Context().Err()
	}
}

// Accept is that of a net.Listener.
func (n *network) Accept() (net.Conn, error) {
	for {
		raw, err := n.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: raw, network: n, began: time.Now()}
		c.ctx, c.cancel = context.WithCancel(context.Background())
		c.limit = time.AfterFunc(math.MaxInt64, c.end)
		if n.add(c) {
			return c, nil
		}
		c.end()
	}
}

// add notes a connection, unless the network is cut.
func (n *network) add(c *conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.is.Mode == "cut" {
		return false
	}
	n.conns[c] = struct{}{}
	c.lives(time.Duration(n.is.Limit))
	return true
}

// close ends it with all its connections.
func (n *network) close() {
	n.set(scenario.Network{Mode: "cut"}) // streams would keep the server
	n.server.Close()
	n.pass.Transport.(*http.Transport).CloseIdleConnections()
}

// conn is one connection of a runner.
type conn struct {
	net.Conn
	network *network
	began   time.Time
	limit   *time.Timer     // ends it
	ctx     context.Context // ends with it
	cancel  context.CancelFunc
}

// passes waits while packets are dropped: as with real ones, which are sent again
// and again, nothing is lost of a connection that outlives that. It is an error if
// this one has not.
func (c *conn) passes() error {
	if _, dropped := c.network.now(); dropped != nil {
		select {
		case <-dropped:
		case <-c.ctx.Done():
		}
	}
	if c.ctx.Err() != nil {
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

// lives sets how long it does, 0 for ever.
func (c *conn) lives(d time.Duration) {
	if d == 0 {
		d = math.MaxInt64
	}
	c.limit.Reset(d - time.Since(c.began))
}

// end breaks the connection the hard way, as a broken network does.
func (c *conn) end() {
	c.cancel()
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Conn.Close()
}

// Close is the server's, also for a connection that was broken.
func (c *conn) Close() error {
	c.network.mu.Lock()
	delete(c.network.conns, c)
	c.network.mu.Unlock()
	c.limit.Stop()
	c.cancel()
	return c.Conn.Close()
}
