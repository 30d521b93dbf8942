package statemap_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/kube"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
	"github.com/studioml/studio-go-runner/runner/internal/statemap"
)

// script is an API server whose answers the test gives one by one. Other than
// server it can break at a certain point.
type script struct {
	*testing.T
	stop chan struct{}

	mu    sync.Mutex
	calls map[string]chan *call
	seen  []string
}

// call is a request that waits for its answer.
type call struct {
	*http.Request
	w    http.ResponseWriter
	done chan struct{}
	once sync.Once
}

func newScript(t *testing.T) (*script, *kube.Client) {
	s := &script{T: t, stop: make(chan struct{}), calls: make(map[string]chan *call)}
	web := httptest.NewServer(s)
	t.Cleanup(func() {
		close(s.stop)
		web.Close()
	})
	return s, newClient(t, web.URL)
}

// queue is where the calls of one kind for one map wait for the test.
func (s *script) queue(key string) chan *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[key] == nil {
		s.calls[key] = make(chan *call)
	}
	return s.calls[key]
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	verb, name := "list", strings.TrimPrefix(query.Get("fieldSelector"), "metadata.name=")
	switch {
	case query.Get("watch") != "":
		verb = "watch"
	case name == "":
		verb, name = "get", r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	}
	c := &call{Request: r, w: w, done: make(chan struct{})}
	s.mu.Lock()
	s.seen = append(s.seen, verb+" "+name)
	s.mu.Unlock()
	select {
	case s.queue(verb + " " + name) <- c:
	case <-s.stop:
		return
	}
	// The test writes the answer, so it must not end before the test says so.
	select {
	case <-c.done:
	case <-s.stop:
	}
}

// next waits for a request.
func (s *script) next(verb, name string) *call {
	s.Helper()
	select {
	case c := <-s.queue(verb + " " + name):
		return c
	case <-time.After(patience):
		s.mu.Lock()
		defer s.mu.Unlock()
		s.Fatalf("no %s of %s in %s; the requests were %q", verb, name, patience, s.seen)
		return nil
	}
}

// end ends the answer.
func (c *call) end() { c.once.Do(func() { close(c.done) }) }

// send writes one document of the answer.
func (c *call) send(object any) *call {
	c.w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(c.w).Encode(object) // the client may have gone
	c.w.(http.Flusher).Flush()
	return c
}

// refuse answers with a status alone.
func (c *call) refuse(code int, reason metav1.StatusReason) {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(code)
	c.send(status(code, reason)).end()
}

type object = map[string]any

func status(code int, reason metav1.StatusReason) object {
	return object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "no"}
}

func ConfigMap(name, version, state string) object {
	return object{"kind": "ConfigMap", "apiVersion": "v1", "data": object{"STATE": state},
		"metadata": object{"name": name, "namespace": namespace, "resourceVersion": version}}
}

func event(kind string, what object) object { return object{"type": kind, "object": what} }

// bookmark says how far a watch is.
func bookmark(version string) object {
	return event("BOOKMARK", object{"kind": "ConfigMap", "apiVersion": "v1", "metadata": object{"resourceVersion": version}})
}

// first answers the list and begins the watch of one map.
func (s *script) first(name, version string, items ...object) *call {
	s.Helper()
	s.list(name, version, items...)
	return s.next("watch", name)
}

func (s *script) list(name, version string, items ...object) {
	s.Helper()
	s.next("list", name).send(object{"kind": "ConfigMapList", "apiVersion": "v1", "metadata": object{"resourceVersion": version}, "items": items}).end()
	if len(items) == 0 {
		s.next("get", namespace).send(object{"metadata": object{"name": namespace}}).end()
	}
}

// A watch goes on where the last one broke, and 410, be it an event or a
// status, is answered by a fresh list without a word to people.
func TestStream(t *testing.T) {
	t.Parallel()
	const name = api.GlobalMapName
	s, client := newScript(t)
	m := follow(t, client, "")
	value := func(value, version string) {
		t.Helper()
		until(t, m, value+" of version "+version, func(s lifecycle.Snapshot) bool {
			if s.Global.Unreadable != "" {
				t.Errorf("unreadable: %s", s.Global.Unreadable)
			}
			return s.Global.Known && s.Global.Value == value && s.Global.ResourceVersion == version
		})
	}
	from := func(c *call, want string) *call {
		t.Helper()
		if got := c.URL.Query().Get("resourceVersion"); got != want {
			t.Errorf("the watch begins at version %q, want %q", got, want)
		}
		return c
	}

	first := from(s.first(name, "7", ConfigMap(name, "5", "Running")), "7")
	value("Running", "5")
	first.send(event("MODIFIED", ConfigMap(name, "9", "DrainAndSuspend")))
	value("DrainAndSuspend", "9")
	// The bookmark is no news, but it moves the point at which the next watch begins.
	first.send(bookmark("12")).end()

	second := from(s.next("watch", name), "12").send(event("DELETED", ConfigMap(name, "14", "DrainAndSuspend")))
	value("", "14")
	second.send(event("ADDED", ConfigMap(name, "15", "Running")))
	value("Running", "15")
	second.send(event("ERROR", status(http.StatusGone, metav1.StatusReasonExpired))).end()

	// The map went while nobody watched: the version is that of the list.
	third := s.first(name, "30")
	value("", "30")
	third.send(event("ADDED", ConfigMap(name, "31", "Running")))
	value("Running", "31")
	third.end()

	from(s.next("watch", name), "31").refuse(http.StatusGone, metav1.StatusReasonExpired)
	from(s.first(name, "41", ConfigMap(name, "40", "DrainAndTerminate")), "41").end()
	value("DrainAndTerminate", "40")
}

// Something on the way cuts every watch off, as some proxies do: what is listed
// counts then.
func TestWatchesThatEndAtOnce(t *testing.T) {
	t.Parallel()
	const name = api.GlobalMapName
	s, client := newScript(t)
	m := follow(t, client, "")
	s.first(name, "5", ConfigMap(name, "5", "Running")).send(bookmark("5")).end()
	ctx, listed := context.WithCancel(t.Context())
	defer listed()
	var watches sync.WaitGroup
	short := 0
	watches.Go(func() { // one that lasts for a second, on a busy machine, is none of those
		for {
			select {
			case c := <-s.queue("watch " + name):
				short++
				c.send(bookmark("5")).end()
			case <-ctx.Done():
				return
			}
		}
	})
	s.list(name, "9", ConfigMap(name, "8", "DrainAndSuspend"))
	listed()
	if watches.Wait(); short < 3 {
		t.Errorf("it listed again after %d watches", short)
	}
	until(t, m, "what the list says", func(s lifecycle.Snapshot) bool { return s.Global.Value == "DrainAndSuspend" })
}

// A role without the verb watch is a mistake that must be told although the
// map can be listed, and what is listed counts.
func TestListAllowedWatchDenied(t *testing.T) {
	t.Parallel()
	const name = api.GlobalMapName
	s, client := newScript(t)
	m := follow(t, client, "")
	denied := func() {
		t.Helper()
		seen := until(t, m, "the missing right", func(s lifecycle.Snapshot) bool { return !s.Global.Denied.IsZero() })
		if !strings.Contains(seen.Global.Unreadable, "not allowed to watch configmaps; grant get, list and watch") {
			t.Errorf("unreadable: %q, want that the verb watch is named", seen.Global.Unreadable)
		}
	}
	for i, state := range []string{"Running", "DrainAndSuspend"} {
		version := strconv.Itoa(5 + i)
		s.list(name, version, ConfigMap(name, version, state))
		// That it can be listed is no news of the watch.
		until(t, m, state, func(s lifecycle.Snapshot) bool {
			return s.Global.Value == state && s.Global.Denied.IsZero() == (i == 0)
		})
		s.next("watch", name).refuse(http.StatusForbidden, metav1.StatusReasonForbidden)
		if i == 0 {
			denied()
		}
	}
	s.first(name, "8", ConfigMap(name, "7", "Running")).send(bookmark("8"))
	until(t, m, "the right", func(s lifecycle.Snapshot) bool {
		return s.Global.Value == "Running" && s.Global.Unreadable == "" && s.Global.Denied.IsZero()
	})
}

// transport fails without a request while it is down.
type transport struct {
	http.RoundTripper
	down atomic.Bool
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.down.Load() {
		return nil, errors.New("no way there")
	}
	return t.RoundTripper.RoundTrip(r)
}

// What is told of a lost connection is the cause alone: the address of the
// request differs with each try, so that each would be news.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	var down transport
	down.down.Store(true)
	client, err := kube.New(&rest.Config{Host: "http://api.invalid",
		WrapTransport: func(rt http.RoundTripper) http.RoundTripper { down.RoundTripper = rt; return &down }})
	if err != nil {
		t.Fatal(err)
	}
	m := follow(t, client, "")
	seen := until(t, m, "the outage", func(s lifecycle.Snapshot) bool { return s.Global.Unreadable != "" })
	const want = `ConfigMap "studioml-go-runner" in namespace "lab" cannot be read: no way there`
	if seen.Global.Unreadable != want || !seen.Global.Denied.IsZero() || seen.Global.Known {
		t.Errorf("%+v, want unreadable: %s", seen.Global, want)
	}
}

// answer is what ReadFresh returned.
type answer struct {
	lifecycle.Snapshot
	error
}

func fresh(t *testing.T, m *statemap.Maps) <-chan answer {
	got := make(chan answer, 1)
	go func() {
		snapshot, err := m.ReadFresh(t.Context())
		got <- answer{snapshot, err}
	}()
	return got
}

func await(t *testing.T, answers <-chan answer) lifecycle.Snapshot {
	t.Helper()
	select {
	case a := <-answers:
		if a.error != nil {
			t.Fatalf("ReadFresh: %v", a.error)
		}
		return a.Snapshot
	case <-time.After(patience):
		t.Fatalf("ReadFresh has not answered in %s", patience)
		return lifecycle.Snapshot{}
	}
}

// A node map that nobody gave rights to does not keep a runner from draining,
// and that it is denied is told as the watch tells it.
func TestFreshLeavesOutANodeMapThatNeverCouldBeRead(t *testing.T) {
	t.Parallel()
	s, client := newScript(t)
	m := follow(t, client, "node-1")
	s.first(api.GlobalMapName, "5", ConfigMap(api.GlobalMapName, "5", "Running")).send(bookmark("5"))
	s.next("list", "node-1").refuse(http.StatusForbidden, metav1.StatusReasonForbidden)
	watched := until(t, m, "the missing right", func(s lifecycle.Snapshot) bool { return s.Global.Known && !s.Node.Denied.IsZero() })
	answers := fresh(t, m)
	s.next("get", namespace).refuse(http.StatusForbidden, metav1.StatusReasonForbidden)
	s.next("get", api.GlobalMapName).send(ConfigMap(api.GlobalMapName, "6", "DrainAndTerminate")).end()
	s.next("get", "node-1").refuse(http.StatusForbidden, metav1.StatusReasonForbidden)
	got := await(t, answers)
	if got.Global.Value != "DrainAndTerminate" || got.Global.ResourceVersion != "6" {
		t.Errorf("global map %+v, want what was read directly, past the watch", got.Global)
	}
	if got.Node.Known || got.Node.Name != "node-1" || !got.Node.Denied.Equal(watched.Node.Denied) {
		t.Errorf("node map %+v, want unknown and denied since %s", got.Node, watched.Node.Denied)
	}
	select {
	case now := <-m.Updates():
		t.Errorf("the watched state became %+v, want that a fresh read leaves it alone", now)
	default:
	}
}

// A node map that was read before may hold an order: without rights, or in an
// outage, there is no usable answer until it can be read again.
func TestFreshWaitsForANodeMapThatWasRead(t *testing.T) {
	t.Parallel()
	s, client := newScript(t)
	m := follow(t, client, "node-1")
	s.first(api.GlobalMapName, "5").send(bookmark("5"))
	s.first("node-1", "5", ConfigMap("node-1", "4", "Running")).send(bookmark("5"))
	until(t, m, "both maps", func(s lifecycle.Snapshot) bool { return s.Global.Known && s.Node.Known })
	answers := fresh(t, m)
	s.next("get", namespace).refuse(http.StatusForbidden, metav1.StatusReasonForbidden)
	s.next("get", api.GlobalMapName).refuse(http.StatusNotFound, metav1.StatusReasonNotFound)
	s.next("get", "node-1").refuse(http.StatusForbidden, metav1.StatusReasonForbidden)
	// It asks again for both, since the first answer may be old by now.
	s.next("get", namespace).send(object{"metadata": object{"name": namespace}}).end()
	s.next("get", api.GlobalMapName).send(ConfigMap(api.GlobalMapName, "8", "DrainAndTerminate")).end()
	s.next("get", "node-1").send(ConfigMap("node-1", "7", "DrainAndSuspend")).end()
	got := await(t, answers)
	if got.Global.Value != "DrainAndTerminate" || got.Node.Value != "DrainAndSuspend" || got.Namespace != namespace {
		t.Errorf("ReadFresh gives %+v", got)
	}
}

// Nobody takes the snapshots for a while: what is taken then is the newest.
func TestOnlyTheNewestSnapshotIsKept(t *testing.T) {
	t.Parallel()
	const name = api.GlobalMapName
	s, client := newScript(t)
	m := statemap.New(client, namespace, "", slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- m.Run(t.Context()) }()
	t.Cleanup(func() { <-done })
	stream := s.first(name, "5", ConfigMap(name, "5", "Running")).send(bookmark("5"))
	stream.send(event("MODIFIED", ConfigMap(name, "6", "DrainAndSuspend"))).end()
	// The next watch begins when the last event of this one is stored.
	s.next("watch", name).send(event("MODIFIED", ConfigMap(name, "7", "DrainAndTerminate"))).end()
	s.next("watch", name)
	if got := <-m.Updates(); got.Global.Value != "DrainAndTerminate" {
		t.Errorf("the snapshot is %+v, want the newest", got.Global)
	}
	select {
	case again := <-m.Updates():
		t.Errorf("there is another snapshot, %+v, want one", again)
	default:
	}
}
