package kube_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/studioml/studio-go-runner/runner/internal/kube"
)

// secure starts an API server with HTTP/2, on a listener of its own unless there is
// another, and returns a configuration for it.
func secure(t *testing.T, handler http.HandlerFunc, on ...net.Listener) (*httptest.Server, *rest.Config) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	for _, l := range on {
		server.Listener.Close()
		server.Listener = l
	}
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	writeCA(t, ca, server)
	return server, &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{CAFile: ca, ServerName: "example.com"}}
}

func writeCA(t *testing.T, file string, server *httptest.Server) {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Certificates are rotated in place; a new connection takes what is there now.
func TestTheCAIsReadAgain(t *testing.T) {
	t.Parallel()
	server, config := secure(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	if err := os.WriteFile(config.CAFile, []byte(oldCA), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := kube.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Get(t.Context(), "/x", nil, new(struct{})); err == nil || !strings.Contains(err.Error(), "x509") {
		t.Errorf("with another CA: %v", err)
	}
	writeCA(t, config.CAFile, server)
	if err := client.Get(t.Context(), "/x", nil, new(struct{})); err != nil {
		t.Errorf("with the right CA: %v", err)
	}
}

// What went wrong is said in words that do not change with each try, and are short.
func TestErrors(t *testing.T) {
	t.Parallel()
	answers := map[string]struct {
		code         int
		header, body string
		want         string
		later        time.Duration
	}{
		"a Status":       {403, "", `{"kind":"Status","code":403,"message":"configmaps is forbidden"}`, `the API server answers 403 Forbidden: configmaps is forbidden`, 0},
		"a proxy's page": {502, "", "<html>", "the API server answers 502 Bad Gateway", 0},
		"too many":       {429, "45", "{}", "the API server answers 429 Too Many Requests", 45 * time.Second},
		"a date":         {503, "Wed, 21 Oct 2026 07:28:00 GMT", "{}", "the API server answers 503 Service Unavailable", time.Hour},
		"a redirect":     {302, "", "", "the API server answers 302 Found", 0},
		"hostile":        {500, "", `{"message":"\u001b[2J` + strings.Repeat("x", 1<<20) + `"}`, `the API server answers 500 Internal Server Error: "\x1b[2J` + strings.Repeat("x", 196) + `"`, 0},
		"a choice":       {300, "", "", "the API server answers 300 Multiple Choices", 0},
		"another Status": {403, "", `{"code":500,"message":"no"}`, "the API server answers 403 Forbidden: no", 0},
		"a proxy's JSON": {502, "", `{"message":"oops","code":"E42"}`, "the API server answers 502 Bad Gateway", 0},
		"no JSON":        {200, "", "hello", "read the API server's answer: invalid character 'h' looking for beginning of value", 0},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := answers[strings.TrimPrefix(r.URL.Path, "/")]
		if a.header != "" {
			w.Header().Set("Retry-After", a.header)
		}
		w.WriteHeader(a.code)
		_, _ = io.WriteString(w, a.body)
	}))
	defer server.Close()
	client, err := kube.New(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range answers {
		err := client.Get(t.Context(), "/"+name, nil, new(struct{}))
		if err == nil || err.Error() != a.want {
			t.Errorf("%s: %v, want %s", name, err, a.want)
		}
		refusal := (*kube.Refusal)(nil)
		if errors.As(err, &refusal) != (a.code != 200) || refusal != nil && (kube.Code(err) != a.code || refusal.Later != a.later) {
			t.Errorf("%s: %+v", name, refusal)
		}
	}
	address := server.Listener.Addr().String()
	server.Close()
	for range 2 {
		want := fmt.Sprintf("dial %s: connect: connection refused", address)
		if err := client.Get(context.Background(), "/x", nil, new(struct{})); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// What is sent says what it is and who sends it, and a refusal of it is told.
func TestCreate(t *testing.T) {
	t.Parallel()
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got = fmt.Sprintf("%s %s type=%s accept=%s agent=%s %s", r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get("Accept"), r.UserAgent(), text)
		if r.URL.Path == "/full" {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = io.WriteString(w, "{}")
	}))
	defer server.Close()
	client, err := kube.New(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		do        func() error
		want, err string
	}{
		{func() error { return client.Create(t.Context(), "/events", map[string]int{"n": 1}) },
			`POST /events type=application/json accept=application/json agent=studio-go-runner {"n":1}`, ""},
		{func() error { return client.Create(t.Context(), "/full", map[string]int{}) },
			`POST /full type=application/json accept=application/json agent=studio-go-runner {}`, "the API server answers 403 Forbidden"},
		{func() error { return client.Create(t.Context(), "/events", t.Error) }, "", "json: unsupported type: func(...interface {})"},
		{func() error { return client.Get(t.Context(), "/map", nil, new(struct{})) },
			`GET /map type= accept=application/json agent=studio-go-runner `, ""},
	} {
		got = ""
		if err := step.do(); fmt.Sprint(err) != step.err && (err != nil || step.err != "") {
			t.Errorf("error %v, want %s", err, step.err)
		}
		if got != step.want {
			t.Errorf("sent\n%s\nwant\n%s", got, step.want)
		}
	}
}

// A connection is given up with the answer, even if more of that could come.
func TestAnswersAreClosed(t *testing.T) {
	t.Parallel()
	gone := make(chan string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = io.WriteString(w, "{}")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		gone <- r.URL.Path
	}))
	defer server.Close()
	defer server.CloseClientConnections()
	client, err := kube.New(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/yes", "/no"} {
		if err := client.Get(t.Context(), path, nil, new(struct{})); (err != nil) != (path == "/no") {
			t.Errorf("%s: %v", path, err)
		}
		select {
		case <-gone:
		case <-time.After(time.Minute):
			t.Fatalf("the answer to %s is still read", path)
		}
	}
}

// Without a name to expect, a certificate must be that of the address.
func TestNameOfTheServer(t *testing.T) {
	t.Parallel()
	_, config := secure(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	for name, want := range map[string]string{"": "", "other.example": "not other.example"} {
		config.ServerName = name
		client, err := kube.New(config)
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Get(t.Context(), "/x", nil, new(struct{})); (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("name %q: %v, want %q", name, err, want)
		}
	}
}

// A proxy that the kubeconfig names is the way, whatever the environment says.
func TestProxy(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host != "api.invalid" {
			t.Errorf("the proxy is asked for %s", r.URL)
		}
		_, _ = io.WriteString(w, "{}")
	}))
	defer server.Close()
	client, err := kube.New(&rest.Config{Host: "http://api.invalid", Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(server.URL) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Get(t.Context(), "/x", nil, new(struct{})); err != nil {
		t.Error(err)
	}
}

// oldCA is the certificate of somebody else.
const oldCA = `-----BEGIN CERTIFICATE-----
MIIBezCCASGgAwIBAgIULaaN7tkqAN8sPSHbwt04Gk3QwggwCgYIKoZIzj0EAwIw
EjEQMA4GA1UEAwwHYW5vdGhlcjAgFw0yNjExMjcxMzAwMzZaGA8yMTI2MTEwMzEz
MDAzNlowEjEQMA4GA1UEAwwHYW5vdGhlcjBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABNSaK3XFr6PsaOsWLkJh+5H7dsBodjRtQtAde1rmdrpihLQEWthOZjtXhuxZ
Dx1SHhDurIJXkkF174TklLMxPVajUzBRMB0GA1UdDgQWBBQl16n4zB9S4KKOsV9V
QCHTKeb42jAfBgNVHSMEGDAWgBQl16n4zB9S4KKOsV9VQCHTKeb42jAPBgNVHRMB
Af8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQDfCs6IZsQyJJ2B/R7bmDPj6XAN
OpMTiLDZWZLgLloq5wIgcVMAtP9630SfHf5OxlN8tUZgoz/ps8O09RxYkhhR/mQ=
-----END CERTIFICATE-----`
