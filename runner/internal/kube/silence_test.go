package kube_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/studioml/studio-go-runner/runner/internal/kube"
)

// network is one without sockets, so that a bubble of fake time can have it. It can
// swallow everything that is sent, as a firewall does that drops packets.
type network struct {
	servers chan net.Conn
	over    <-chan struct{}
	drop    atomic.Bool
	dialled atomic.Int32
}

func (n *network) dial(context.Context, string, string) (net.Conn, error) {
	client, here := net.Pipe()
	there, server := net.Pipe()
	go n.pass(there, here)
	go n.pass(here, there)
	n.dialled.Add(1)
	n.servers <- server
	return client, nil
}

func (n *network) pass(to, from net.Conn) {
	packets := make(chan []byte, 1000) // who sends does not wait for the other side
	go func() {
		defer to.Close()
		for p := range packets {
			_, _ = to.Write(p) // it may have gone
		}
	}()
	defer close(packets)
	for {
		packet := make([]byte, 4096)
		size, err := from.Read(packet)
		if err != nil {
			return
		}
		if !n.drop.Load() {
			packets <- packet[:size]
		}
	}
}

// Accept, Close and Addr implement net.Listener.
func (n *network) Accept() (net.Conn, error) {
	select {
	case conn := <-n.servers:
		return conn, nil
	case <-n.over:
		return nil, net.ErrClosed
	}
}
func (n *network) Close() error   { return nil } // by the end of the test
func (n *network) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 6443} }

// within plays a client and an API server with HTTP/2 on a network in fake time.
func within(t *testing.T, handler http.HandlerFunc, play func(t *testing.T, n *network, client *kube.Client)) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{servers: make(chan net.Conn), over: t.Context().Done()}
		_, config := secure(t, handler, n)
		config.Dial = n.dial
		client, err := kube.New(config)
		if err != nil {
			t.Fatal(err)
		}
		play(t, n, client)
	})
}

// A connection that is cut without a word is noticed within half a minute, by
// pings alone; while it stands, they show that somebody is there.
func TestSilence(t *testing.T) {
	idle := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	within(t, idle, func(t *testing.T, n *network, client *kube.Client) {
		if !client.Heard().IsZero() {
			t.Error("heard before anything was asked")
		}
		stream, err := client.Watch(t.Context(), "/api/v1/x", map[string][]string{})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if !client.Heard().Equal(time.Now()) {
			t.Fatal("nothing heard of a watch that is served")
		}
		for range 10 {
			time.Sleep(15 * time.Second)
			if synctest.Wait(); !client.Heard().Equal(time.Now()) {
				t.Fatalf("an idle watch was silent since %s, want a ping every 15 s", client.Heard())
			}
		}

		n.drop.Store(true)
		cut := time.Now()
		if _, err := stream.Next(new(kube.Refusal)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("a watch that was cut off ends with %v, want an error", err)
		}
		if took := time.Since(cut); took != 25*time.Second {
			t.Errorf("noticed after %s", took)
		}
		again := time.Now()
		if err := client.Get(t.Context(), "/api/v1/x", nil, new(struct{})); err == nil {
			t.Error("an answer, though everything is dropped")
		}
		if took := time.Since(again); took != 20*time.Second {
			t.Errorf("that nobody answers took %s", took)
		}
		if !client.Heard().Equal(cut) {
			t.Error("heard something, though everything is dropped")
		}
		n.drop.Store(false)
		if stream, err := client.Watch(t.Context(), "/api/v1/x", map[string][]string{}); err != nil {
			t.Errorf("after the repair: %v", err)
		} else {
			stream.Close()
		}
	})
}

// However many requests begin together, they need one connection, the first and the one
// after an outage; when none can be had they fail together.
func TestOneConnectionWillDo(t *testing.T) {
	answer := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }
	within(t, answer, func(t *testing.T, n *network, client *kube.Client) {
		const requests = 3
		ask := func() (failed int) {
			errs := make(chan error, requests)
			for range requests {
				go func() { errs <- client.Get(t.Context(), "/api/v1/x", nil, new(struct{})) }()
			}
			for range requests {
				if err := <-errs; err != nil {
					failed++
				}
			}
			return failed
		}
		if failed, dialled := ask(), n.dialled.Load(); failed != 0 || dialled != 1 {
			t.Errorf("%d connections, and %d of %d requests failed, want one connection", dialled, failed, requests)
		}
		n.drop.Store(true)
		time.Sleep(2 * time.Minute) // it is idle, and closed
		cut := time.Now()
		if failed := ask(); failed != requests || time.Since(cut) != 20*time.Second {
			t.Errorf("%d of %d requests failed in %s, though everything is dropped", failed, requests, time.Since(cut))
		}
		n.drop.Store(false)
		before := n.dialled.Load()
		if failed, dialled := ask(), n.dialled.Load()-before; failed != 0 || dialled != 1 {
			t.Errorf("%d connections, and %d of %d requests failed, want one connection", dialled, failed, requests)
		}
	})
}

// Who waits for the connection of a request that is ended, and not answered, opens another.
func TestWhoIsAheadGivesUp(t *testing.T) {
	answer := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }
	within(t, answer, func(t *testing.T, n *network, client *kube.Client) {
		ahead, giveUp := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		for _, ctx := range []context.Context{ahead, t.Context()} {
			n.drop.Store(ctx == ahead) // what it has sent never arrives
			go func() { errs <- client.Get(ctx, "/api/v1/x", nil, new(struct{})) }()
			synctest.Wait()
		}
		giveUp()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("who was ended: %v", err)
		}
		if err := <-errs; err != nil {
			t.Errorf("who waited: %v", err)
		}
	})
}

// A server that takes a request and does not answer, as a proxy without its
// backend.
func TestLateHeaders(t *testing.T) {
	within(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, func(t *testing.T, _ *network, client *kube.Client) {
		begin := time.Now()
		if _, err := client.Watch(t.Context(), "/api/v1/x", map[string][]string{}); err == nil || !strings.Contains(err.Error(), "timeout awaiting response headers") {
			t.Errorf("%v", err)
		}
		if took := time.Since(begin); took != 20*time.Second {
			t.Errorf("noticed after %s", took)
		}
	})
}
