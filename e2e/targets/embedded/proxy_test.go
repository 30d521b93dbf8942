package embedded_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
)

// echo serves a server that sends back what it gets, until the test ends.
func echo(t *testing.T) string {
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
	return listener.Addr().String()
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
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

func TestProxyCutAndRestore(t *testing.T) {
	proxy, err := embedded.NewProxy(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	conn := dial(t, proxy.Address())
	if err := talks(conn); err != nil {
		t.Fatal(err)
	}
	if err := proxy.CutNetwork(); err != nil {
		t.Fatal(err)
	}
	if err := talks(conn); err == nil {
		t.Error("the connection outlived the cut")
	}
	if _, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", proxy.Address()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error of a new connection is %v, want it refused", err)
	}
	if err := errors.Join(proxy.CutNetwork(), proxy.RestoreNetwork(), proxy.RestoreNetwork()); err != nil {
		t.Fatal(err)
	}
	if err := talks(dial(t, proxy.Address())); err != nil {
		t.Errorf("after restore: %v", err)
	}
}

func TestProxyKeepsPortWhileCut(t *testing.T) {
	proxy, err := embedded.NewProxy(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	if err := proxy.CutNetwork(); err != nil {
		t.Fatal(err)
	}
	if listener, err := net.Listen("tcp", proxy.Address()); err == nil {
		listener.Close()
		t.Error("somebody else could take the port")
	}
}

func TestProxyLimitsLifetime(t *testing.T) {
	proxy, err := embedded.NewProxy(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	old := dial(t, proxy.Address())
	if err := talks(old); err != nil {
		t.Fatal(err)
	}
	const limit = 50 * time.Millisecond
	if err := proxy.LimitConnections(limit); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	young := dial(t, proxy.Address())
	for _, conn := range []net.Conn{old, young} {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("read from a silent server")
		}
	}
	if lived := time.Since(began); lived < limit {
		t.Errorf("the connection lived %s, want at least %s", lived, limit)
	}
	if err := proxy.LimitConnections(0); err != nil {
		t.Fatal(err)
	}
	if err := talks(dial(t, proxy.Address())); err != nil {
		t.Errorf("without a limit: %v", err)
	}
	if err := proxy.LimitConnections(-1); err == nil {
		t.Error("no error for a negative limit")
	}
}

func TestProxyCloseEndsConnections(t *testing.T) {
	proxy, err := embedded.NewProxy(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, proxy.Address())
	if err := talks(conn); err != nil {
		t.Fatal(err)
	}
	proxy.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := (&net.Dialer{}).DialContext(ctx, "tcp", proxy.Address()); err == nil {
		t.Error("the proxy still listens")
	}
	if err := talks(conn); err == nil {
		t.Error("the connection outlived the proxy")
	}
}
