package pgserver_test

import (
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
)

// Packets pass until the way is cut and after it is restored; those that a cut holds
// back are gone when the proxy ends, which waits for nothing.
func TestProxy(t *testing.T) {
	s := &pgserver.Server{Dir: t.TempDir(), Port: 1}
	listener, err := net.Listen("unix", filepath.Join(s.Dir, ".s.PGSQL.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	p, err := s.Proxy()
	if err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	send := func(text string) {
		if _, err := io.WriteString(client, text); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want string) {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(server, got); err != nil || string(got) != want {
			t.Fatalf("the server got %q (%v), want %q", got, err, want)
		}
	}
	send("first")
	expect("first")
	p.Cut()
	send("second")
	p.Restore()
	expect("second")
	p.Cut()
	send("third")
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if rest, _ := io.ReadAll(server); len(rest) > 0 {
		t.Errorf("the server got %q after the cut", rest)
	}
}
