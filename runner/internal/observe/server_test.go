package observe_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/observe"
)

// bounded serves as a runner does.
func bounded(t *testing.T) (address string) {
	t.Helper()
	board := observe.NewBoard(api.Status{Runner: "a", Phase: api.PhaseRunning})
	server := observe.NewServer(observe.Handler(board, observe.NewMetrics(board).Registry), slog.New(slog.DiscardHandler))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { board.Close(); server.Close(); <-done })
	return listener.Addr().String()
}

// ask sends a request on a connection of its own, and returns the status line.
func ask(t *testing.T, address, path string) (net.Conn, string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if path == "" {
		return conn, ""
	}
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return conn, line
}

// Whoever holds connections or streams, a probe gets through, and what they hold
// is bounded.
func TestClientsThatHoldOn(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"silent": "", "idle": "/livez", "streams": "/statusz?watch=true"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := bounded(t)
			var held []net.Conn
			refused := 0
			for range 300 {
				conn, line := ask(t, address, path)
				held = append(held, conn)
				if strings.Contains(line, "503") {
					refused++
				}
			}
			for range 3 {
				if _, line := ask(t, address, "/livez"); !strings.Contains(line, "200") {
					t.Errorf("livez: %q", line)
				}
			}
			if name == "streams" && refused != 300-64 {
				t.Errorf("%d of 300 streams were refused, want all but 64", refused)
			}
			open := len(held)
			for limit := time.Now().Add(20 * time.Second); open > 128 && time.Now().Before(limit); {
				open = 0
				for _, conn := range held {
					if !ended(t, conn) {
						open++
					}
				}
			}
			if open > 128 {
				t.Errorf("%d connections are held, want 128 at most", open)
			}
		})
	}
}

// ended reports whether the other side has closed a connection.
func ended(t *testing.T, conn net.Conn) bool {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err := io.Copy(io.Discard, conn)
	netErr, ok := err.(net.Error)
	return !(ok && netErr.Timeout())
}

// A client that takes its time with a request is cut off; one that only watches
// is not.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	address := bounded(t)
	begin := time.Now()
	slow, _ := ask(t, address, "")
	fmt.Fprint(slow, "GET /livez HTTP/1.1\r\nHost:")
	watcher, line := ask(t, address, "/statusz?watch=true")
	if !strings.Contains(line, "200") {
		t.Fatal(line)
	}
	if err := slow.SetReadDeadline(begin.Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, slow); err != nil {
		t.Errorf("a request that never ends: %v after %s, want the end of the connection", err, time.Since(begin))
	}
	time.Sleep(time.Until(begin.Add(6 * time.Second))) // past the limit, which the watcher must outlast
	if err := watcher.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(watcher); err == nil || len(rest) > 0 {
		t.Errorf("a stream in which nothing happens was ended: %v, %q", err, rest)
	}
}

// Neither methods nor paths change anything.
func TestNothingCanBeChanged(t *testing.T) {
	t.Parallel()
	address := bounded(t)
	for _, path := range []string{"/statusz", "/livez", "/readyz", "/metrics", "/"} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
			request, err := http.NewRequest(method, "http://"+address+path, strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode/100 != 4 {
				t.Errorf("%s %s: %s", method, path, response.Status)
			}
		}
	}
}
