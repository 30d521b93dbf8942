package embedded_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
)

// network is a proxy between the test and a server.
type network interface {
	Address() string
	Set(scenario.Network) error
	Certificate() []byte
}

// echo serves a server that sends back what it gets, until the test ends, behind
// a proxy.
func echo(t *testing.T) network {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		group.Wait()
	})
	return proxy(t, "https://"+listener.Addr().String(), nil)
}

func proxy(t *testing.T, host string, ca []byte) network {
	t.Helper()
	p, err := embedded.NewProxy(host, ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func set(t *testing.T, p network, n scenario.Network) {
	t.Helper()
	if err := p.Set(n); err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, p network) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// talks says whether what is sent comes back.
func talks(conn net.Conn) error {
	if _, err := conn.Write([]byte("ping")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 4))
	return err
}

func TestCutAndRestore(t *testing.T) {
	p := echo(t)
	conn := dial(t, p)
	if err := talks(conn); err != nil {
		t.Fatal(err)
	}
	set(t, p, scenario.Network{Mode: "cut"})
	if err := talks(conn); err == nil {
		t.Error("the connection outlived the cut")
	}
	if _, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.Address()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error of a new connection is %v, want it refused", err)
	}
	if listener, err := net.Listen("tcp", p.Address()); err == nil {
		listener.Close()
		t.Error("somebody else could take the port")
	}
	for _, mode := range []string{"cut", "restore", "restore"} {
		set(t, p, scenario.Network{Mode: mode})
	}
	if err := talks(dial(t, p)); err != nil {
		t.Errorf("after restore: %v", err)
	}
	if err := p.Set(scenario.Network{Mode: "slow"}); err == nil {
		t.Error("no error for a mode that does not exist")
	}
}

// Nothing passes in either direction, nobody is told, and what was sent
// meanwhile comes when packets pass again, as TCP has it.
func TestDrop(t *testing.T) {
	const silence = 100 * time.Millisecond // no cause can end it, so nothing else can be waited for
	p := echo(t)
	for _, after := range []string{"restore", "cut"} {
		old := dial(t, p)
		if err := talks(old); err != nil {
			t.Fatal(err)
		}
		set(t, p, scenario.Network{Mode: "drop"})
		young := dial(t, p) // the kernel has taken it
		for name, conn := range map[string]net.Conn{"old": old, "new": young} {
			_ = conn.SetDeadline(time.Now().Add(silence))
			if err := talks(conn); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the %s connection: %v, want no answer", name, err)
			}
			_ = conn.SetDeadline(time.Time{})
		}
		set(t, p, scenario.Network{Mode: after})
		for name, conn := range map[string]net.Conn{"old": old, "new": young} {
			_, err := io.ReadFull(conn, make([]byte, 4))
			if passed := err == nil; passed != (after == "restore") {
				t.Errorf("%s, the %s connection: %v", after, name, err)
			}
		}
	}
}

// A connection that its client has given up is not told to the server before
// packets pass, and then it is.
func TestDropHoldsTheEndOfAConnection(t *testing.T) {
	ended := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(ended)
	}))
	server.Start()
	t.Cleanup(server.Close)
	p := proxy(t, server.URL, nil)
	conn := dial(t, p)
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	set(t, p, scenario.Network{Mode: "drop"})
	conn.Close()
	select {
	case <-ended:
		t.Error("the server has heard of the end")
	case <-time.After(100 * time.Millisecond):
	}
	set(t, p, scenario.Network{Mode: "restore"})
	<-ended
}

func TestLimitedLifetime(t *testing.T) {
	p := echo(t)
	old := dial(t, p)
	if err := talks(old); err != nil {
		t.Fatal(err)
	}
	const limit = 50 * time.Millisecond
	set(t, p, scenario.Network{Limit: scenario.Duration(limit)})
	began := time.Now()
	young := dial(t, p)
	for _, conn := range []net.Conn{old, young} {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("read from a silent server")
		}
	}
	if lived := time.Since(began); lived < limit {
		t.Errorf("the connection lived %s, want at least %s", lived, limit)
	}
	set(t, p, scenario.Network{Mode: "restore"})
	if err := talks(dial(t, p)); err != nil {
		t.Errorf("without a limit: %v", err)
	}
}

func TestProxyCloseEndsConnections(t *testing.T) {
	for _, mode := range []string{"restore", "drop"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		p, err := embedded.NewProxy("https://"+listener.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		conn := dial(t, p)
		set(t, p, scenario.Network{Mode: mode})
		p.Close()
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("the connection outlived the proxy")
		}
		if _, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.Address()); err == nil {
			t.Error("the proxy still listens")
		}
	}
}

// streaming is an API server whose answers are streams, of a line for each that
// the test sends; the client knows its certificate and that of the proxy's front.
func streaming(t *testing.T) (p network, lines chan string, client *http.Client) {
	t.Helper()
	lines = make(chan string)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.Header.Get("Authorization"))
		for {
			_ = http.NewResponseController(w).Flush()
			select {
			case line := <-lines:
				fmt.Fprintln(w, line)
			case <-r.Context().Done():
				return
			}
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	t.Cleanup(server.Close)
	p = proxy(t, server.URL, ca)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(append(ca, p.Certificate()...))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return p, lines, &http.Client{Transport: transport}
}

func get(t *testing.T, client *http.Client, p network) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+p.Address()+"/api", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer me")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

// hears says whether the next line of an answer is that.
func hears(t *testing.T, response *http.Response, want string) {
	t.Helper()
	line := make([]byte, len(want)+1)
	if _, err := io.ReadFull(response.Body, line); err != nil || string(line) != want+"\n" {
		t.Errorf("the answer is %q, %v, want %q", line, err, want)
	}
}

func TestAnswersInPlaceOfTheServer(t *testing.T) {
	p, lines, client := streaming(t)
	before := get(t, client, p)
	hears(t, before, "Bearer me")
	set(t, p, scenario.Network{Answer: 429, RetryAfter: scenario.Duration(44*time.Second + time.Millisecond)})
	if _, err := io.ReadAll(before.Body); err == nil {
		t.Error("a connection from before still leads to the server")
	}
	answer := get(t, client, p)
	if answer.StatusCode != 429 || answer.Header.Get("Retry-After") != "45" || answer.ProtoMajor != 2 {
		t.Errorf("the answer is %s %s, with %v", answer.Proto, answer.Status, answer.Header)
	}
	set(t, p, scenario.Network{Answer: 503})
	if answer := get(t, client, p); answer.StatusCode != 503 || answer.Header.Get("Retry-After") != "" {
		t.Errorf("the answer is %s, with %v", answer.Status, answer.Header)
	}
	set(t, p, scenario.Network{Mode: "restore"})
	after := get(t, client, p)
	hears(t, after, "Bearer me")
	lines <- "a change"
	hears(t, after, "a change")
	set(t, p, scenario.Network{Mode: "drop"}) // it works behind the front as well
	lines <- "another"
	heard := make(chan struct{})
	go func() {
		hears(t, after, "another")
		close(heard)
	}()
	select {
	case <-heard:
		t.Error("a packet has passed")
	case <-time.After(100 * time.Millisecond):
	}
	set(t, p, scenario.Network{Mode: "restore"})
	<-heard
}

func TestLateHeads(t *testing.T) {
	p, lines, client := streaming(t)
	const late = 200 * time.Millisecond
	set(t, p, scenario.Network{Late: scenario.Duration(late)})
	began := time.Now()
	answer := get(t, client, p)
	if took := time.Since(began); took < late {
		t.Errorf("the head came after %s, want %s", took, late)
	}
	hears(t, answer, "Bearer me")
	began = time.Now()
	for i := range 3 {
		line := fmt.Sprint("change ", i)
		lines <- line
		hears(t, answer, line)
	}
	if took := time.Since(began); took > late { // what follows the head is not held back
		t.Errorf("the stream took %s", took)
	}
}
