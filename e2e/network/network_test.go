package network

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// silence is how long nothing is heard of what does not pass: no cause can end it, so
// nothing else can be waited for.
const silence = 100 * time.Millisecond

// streaming is an API server whose answers are streams, of a line for each that
// the test sends; ended has one for each that is over. The client knows the
// certificate of what is before it.
func streaming(t *testing.T) (n *Network, lines chan string, ended chan struct{}) {
	t.Helper()
	lines, ended = make(chan string), make(chan struct{}, 100)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { ended <- struct{}{} }()
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
	t.Cleanup(server.Close)
	n, err := New(server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n, lines, ended
}

// client makes connections of its own.
func client(t *testing.T, n *Network) *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(n.Certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// ask asks over a connection of its own.
func ask(ctx context.Context, t *testing.T, n *Network) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL+"/api", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer me")
	return client(t, n).Do(request)
}

// get asks, and is answered.
func get(t *testing.T, n *Network) *http.Response {
	t.Helper()
	response, err := ask(t.Context(), t, n)
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

func TestCutAndRestore(t *testing.T) {
	n, _, ended := streaming(t)
	before := get(t, n)
	hears(t, before, "Bearer me")
	_ = n.SetNetwork(Fault{Mode: "cut"})
	if _, err := io.ReadAll(before.Body); err == nil {
		t.Error("the connection outlived the cut")
	}
	<-ended // the server hears of it
	if _, err := ask(t.Context(), t, n); err == nil {
		t.Error("there is an answer in spite of the cut")
	}
	for _, mode := range []string{"cut", "restore", "restore"} {
		_ = n.SetNetwork(Fault{Mode: mode})
	}
	hears(t, get(t, n), "Bearer me")
}

// Nothing passes in either direction, nobody is told, and what was sent
// meanwhile comes when packets pass again, as TCP has it.
func TestDrop(t *testing.T) {
	n, lines, _ := streaming(t)
	for _, after := range []string{"restore", "cut"} {
		old := get(t, n)
		hears(t, old, "Bearer me")
		_ = n.SetNetwork(Fault{Mode: "drop"})
		lines <- "a line"
		heard := make(chan error, 2)
		go func() {
			_, err := io.ReadFull(old.Body, make([]byte, len("a line")))
			heard <- err
		}()
		go func() {
			young, err := ask(t.Context(), t, n) // the kernel has taken the connection
			if err == nil {
				young.Body.Close()
			}
			heard <- err
		}()
		select {
		case err := <-heard:
			t.Errorf("something has passed: %v", err)
		case <-time.After(silence):
		}
		_ = n.SetNetwork(Fault{Mode: after})
		for range 2 {
			if err := <-heard; (err == nil) != (after == "restore") {
				t.Errorf("%s: %v", after, err)
			}
		}
		old.Body.Close()
	}
}

// A connection that its client has given up is not told to the server before
// packets pass, and then it is.
func TestDropHoldsTheEndOfAConnection(t *testing.T) {
	n, _, ended := streaming(t)
	ctx, cancel := context.WithCancel(t.Context())
	response, err := ask(ctx, t, n)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	hears(t, response, "Bearer me")
	_ = n.SetNetwork(Fault{Mode: "drop"})
	cancel()
	select {
	case <-ended:
		t.Error("the server has heard of the end")
	case <-time.After(silence):
	}
	_ = n.SetNetwork(Fault{Mode: "restore"})
	<-ended
}

func TestLimitedLifetime(t *testing.T) {
	n, _, _ := streaming(t)
	limit, began := 100*time.Millisecond, time.Time{}
	var old, young *http.Response
	for young == nil { // on a busy machine the time may be over before the answer has begun
		_ = n.SetNetwork(Fault{Mode: "restore"})
		old = get(t, n)
		hears(t, old, "Bearer me")
		limit *= 2
		_ = n.SetNetwork(Fault{Limit: scenario.Duration(limit)})
		began = time.Now()
		response, err := ask(t.Context(), t, n)
		if err == nil {
			t.Cleanup(func() { response.Body.Close() })
			if _, err = io.ReadFull(response.Body, make([]byte, len("Bearer me\n"))); err == nil {
				young = response
			}
		}
		if err != nil && limit > 20*time.Second {
			t.Fatal(err)
		}
	}
	for _, response := range []*http.Response{old, young} {
		if _, err := io.ReadAll(response.Body); err == nil {
			t.Error("the answer has come to its end")
		}
	}
	if lived := time.Since(began); lived < limit {
		t.Errorf("the connection lived %s, want at least %s", lived, limit)
	}
	_ = n.SetNetwork(Fault{Mode: "restore"})
	lasting := get(t, n)
	hears(t, lasting, "Bearer me")
	over := make(chan struct{})
	go func() {
		_, _ = io.ReadAll(lasting.Body)
		close(over)
	}()
	select {
	case <-over:
		t.Error("without a limit the connection has ended")
	case <-time.After(2 * limit):
	}
	lasting.Body.Close()
	<-over
}

func TestTheEndOfTheNetworkEndsConnections(t *testing.T) {
	for _, mode := range []string{"restore", "drop"} {
		n, _, ended := streaming(t)
		response := get(t, n)
		_ = n.SetNetwork(Fault{Mode: mode})
		_ = n.Close()
		<-ended
		if _, err := io.ReadAll(response.Body); err == nil {
			t.Error("the connection outlived the network")
		}
		if _, err := ask(t.Context(), t, n); err == nil {
			t.Error("it still listens")
		}
	}
}

func TestAnswersInPlaceOfTheServer(t *testing.T) {
	n, lines, _ := streaming(t)
	before := get(t, n)
	hears(t, before, "Bearer me")
	_ = n.SetNetwork(Fault{Answer: 429, RetryAfter: scenario.Duration(44*time.Second + time.Millisecond)})
	if _, err := io.ReadAll(before.Body); err == nil {
		t.Error("a connection from before still leads to the server")
	}
	answer := get(t, n)
	if answer.StatusCode != 429 || answer.Header.Get("Retry-After") != "45" || answer.ProtoMajor != 2 {
		t.Errorf("the answer is %s %s, with %v", answer.Proto, answer.Status, answer.Header)
	}
	_ = n.SetNetwork(Fault{Answer: 503})
	if answer := get(t, n); answer.StatusCode != 503 || answer.Header.Get("Retry-After") != "" {
		t.Errorf("the answer is %s, with %v", answer.Status, answer.Header)
	}
	_ = n.SetNetwork(Fault{Mode: "restore"})
	after := get(t, n)
	hears(t, after, "Bearer me")
	lines <- "a change"
	hears(t, after, "a change")
	_ = n.SetNetwork(Fault{Mode: "drop"}) // it works behind the front as well
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
	_ = n.SetNetwork(Fault{Mode: "restore"})
	<-heard
}

func TestLateHeads(t *testing.T) {
	n, lines, _ := streaming(t)
	const late = 200 * time.Millisecond
	_ = n.SetNetwork(Fault{Late: scenario.Duration(late)})
	began := time.Now()
	answer := get(t, n)
	if took := time.Since(began); took < late {
		t.Errorf("the head came after %s, want %s", took, late)
	}
	hears(t, answer, "Bearer me")
	began = time.Now()
	const many = 50
	for i := range many {
		line := fmt.Sprint("change ", i)
		lines <- line
		hears(t, answer, line)
	}
	if took := time.Since(began); took > many*late { // what follows the head is not held back
		t.Errorf("the stream took %s", took)
	}
}
