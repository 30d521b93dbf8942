package embedded

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// front is a server that TLS ends at, before the API server: it passes requests
// on, or answers them in its place. The connections of a proxy lead to it only
// once a scenario has asked for that.
type front struct {
	server *httptest.Server
	pass   *httputil.ReverseProxy
	direct *http.Transport

	mu      sync.Mutex
	network scenario.Network
}

// newFront serves before the API server at host, whose certificate ca has signed.
func newFront(host string, ca []byte) (*front, error) {
	target, err := url.Parse(host)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	quiet := log.New(io.Discard, "", 0) // broken connections are what the tests are about
	f := &front{direct: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	f.pass = &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     f.direct,
		FlushInterval: -1, // at once: a watch is a stream
		ErrorLog:      quiet,
		ModifyResponse: func(response *http.Response) error {
			held := time.NewTimer(time.Duration(f.state().Late))
			defer held.Stop()
			select {
			case <-held.C:
				return nil
			case <-response.Request.Context().Done():
				return response.Request.Context().Err()
			}
		},
		// Without an API server there is no answer either.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	f.server = httptest.NewUnstartedServer(f)
	f.server.EnableHTTP2 = true
	f.server.Config.ErrorLog = quiet
	f.server.StartTLS()
	return f, nil
}

// ServeHTTP answers, or passes the request on.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := f.state()
	if n.Answer == 0 {
		f.pass.ServeHTTP(w, r)
		return
	}
	if n.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(time.Duration(n.RetryAfter).Seconds()))))
	}
	http.Error(w, http.StatusText(n.Answer), n.Answer)
}

func (f *front) set(n scenario.Network) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.network = n
}

func (f *front) state() scenario.Network {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.network
}

// address is where it listens.
func (f *front) address() string { return f.server.Listener.Addr().String() }

// certificate is what clients have to trust, as PEM.
func (f *front) certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.server.Certificate().Raw})
}

func (f *front) close() {
	f.server.CloseClientConnections() // streams would keep it
	f.server.Close()
	f.direct.CloseIdleConnections()
}
