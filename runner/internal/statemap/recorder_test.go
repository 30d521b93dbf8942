package statemap_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
	"github.com/studioml/studio-go-runner/runner/internal/statemap"
)

// list is the answer to a list, with one map or none.
func list(version string, maps ...object) object {
	return object{"kind": "ConfigMapList", "apiVersion": "v1", "metadata": object{"resourceVersion": version}, "items": maps}
}

// A map that is gone has been gone since it went, however often it is looked
// for: the settle window (R6) counts from there.
func TestALaterListDoesNotRenewTheDeletion(t *testing.T) {
	t.Parallel()
	const name = api.GlobalMapName
	s, client := newScript(t)
	m := follow(t, client, "")
	stream := s.next("stream", name).send(event("ADDED", configMap(name, "5", "Running"))).send(bookmark("6", true))
	until(t, m, "the map", func(s lifecycle.Snapshot) bool { return s.Global.Present })
	stream.send(event("DELETED", configMap(name, "7", "Running")))
	gone := until(t, m, "the deletion", func(s lifecycle.Snapshot) bool { return !s.Global.Present }).Global.Gone
	for _, version := range []string{"8", "9"} {
		stream.send(event("ERROR", status(http.StatusGone, metav1.StatusReasonExpired))).end()
		stream = s.next("stream", name).send(bookmark(version, true))
		again := until(t, m, "the list", func(s lifecycle.Snapshot) bool { return s.Global.ResourceVersion == version })
		if again.Global.Present || !again.Global.Gone.Equal(gone) {
			t.Errorf("after the list of version %s: %+v, want gone since %s", version, again.Global, gone)
		}
	}
}

// The newest version seen is kept, and one that cannot be compared is newer.
func TestTheVersionOfAMapThatIsGone(t *testing.T) {
	t.Parallel()
	for listed, want := range map[string]string{"6": "6", "4": "5", "x4": "x4"} {
		const name = api.GlobalMapName
		s, client := newScript(t)
		m := follow(t, client, "")
		stream := s.next("stream", name).send(event("ADDED", configMap(name, "5", "Running"))).send(bookmark("5", true))
		until(t, m, "the map", func(s lifecycle.Snapshot) bool { return s.Global.Present })
		stream.send(event("ERROR", status(http.StatusGone, metav1.StatusReasonExpired))).end()
		s.next("stream", name).send(bookmark(listed, true))
		gone := until(t, m, "the list", func(s lifecycle.Snapshot) bool { return !s.Global.Present })
		if gone.Global.ResourceVersion != want {
			t.Errorf("version %q after an empty list of version %q, want %q", gone.Global.ResourceVersion, listed, want)
		}
	}
}

// What is listed can be read, also before a watch is there to say so.
func TestAListEndsWhatWasUnreadable(t *testing.T) {
	t.Parallel()
	for what, answer := range map[string]object{
		"a map":  list("5", configMap(api.GlobalMapName, "5", "Running")),
		"no map": list("5"),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			const name = api.GlobalMapName
			s, client := newScript(t)
			m := follow(t, client, "")
			denied := func(verb string) {
				t.Helper()
				seen := until(t, m, "the missing right", func(s lifecycle.Snapshot) bool { return strings.Contains(s.Global.Unreadable, verb) })
				if want := "not allowed to " + verb + " configmaps"; !strings.Contains(seen.Global.Unreadable, want) || seen.Global.Denied.IsZero() {
					t.Errorf("%+v, want unreadable: %s", seen.Global, want)
				}
			}
			s.next("stream", name).refuse(http.StatusForbidden, metav1.StatusReasonForbidden)
			denied("watch")
			s.next("list", name).refuse(http.StatusForbidden, metav1.StatusReasonForbidden)
			denied("list")
			s.next("stream", name).refuse(http.StatusForbidden, metav1.StatusReasonForbidden)
			denied("watch")
			s.next("list", name).send(answer).end()
			until(t, m, "what was listed", func(s lifecycle.Snapshot) bool {
				if strings.Contains(s.Global.Unreadable, "nil") {
					t.Errorf("unreadable: %s", s.Global.Unreadable)
				}
				return s.Global.Known && s.Global.Unreadable == "" && s.Global.Denied.IsZero()
			})
		})
	}
}

// A watch that is served says that the map can be read, though nothing changes.
func TestAWatchEndsWhatWasUnreadable(t *testing.T) {
	t.Parallel()
	const name = api.GlobalMapName
	s, client := newScript(t)
	var log lines
	m := followWith(t, statemap.New(client.CoreV1(), namespace, "", slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	s.next("stream", name).send(event("ADDED", configMap(name, "5", "Running"))).send(bookmark("5", true)).
		send(event("MODIFIED", configMap(name, "6", "Running"))).end()
	s.next("watch", name).refuse(http.StatusForbidden, metav1.StatusReasonForbidden)
	until(t, m, "the missing right", func(s lifecycle.Snapshot) bool { return !s.Global.Denied.IsZero() })
	if !strings.Contains(log.String(), `level=DEBUG msg="map unreadable" map=studioml-go-runner verb=watch error=no`) {
		t.Errorf("log %q, want that the map is unreadable", log.String())
	}
	// Another reason is not a lack of rights.
	next := s.either(name)
	next.refuse(http.StatusInternalServerError, metav1.StatusReasonInternalError)
	until(t, m, "the outage", func(s lifecycle.Snapshot) bool { return s.Global.Unreadable != "" && s.Global.Denied.IsZero() })
	for range 10 { // a list may come first, and says nothing yet
		if c := s.either(name); c.URL.Query().Get("watch") != "" {
			c.w.WriteHeader(http.StatusOK)
			c.w.(http.Flusher).Flush()
			break
		} else {
			c.refuse(http.StatusInternalServerError, metav1.StatusReasonInternalError)
		}
	}
	until(t, m, "the return", func(s lifecycle.Snapshot) bool { return s.Global.Unreadable == "" && s.Global.Value == "Running" })
}

// either waits for any request for a map but a get.
func (s *script) either(name string) *call {
	s.Helper()
	select {
	case c := <-s.queue("stream " + name):
		return c
	case c := <-s.queue("watch " + name):
		return c
	case c := <-s.queue("list " + name):
		return c
	case <-time.After(patience):
		s.Fatalf("no request for %s in %s", name, patience)
		return nil
	}
}

// followWith is follow for a Maps that the test has made.
func followWith(t *testing.T, m *statemap.Maps) *statemap.Maps {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return m
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// What each snapshot has: its namespace, the names of both maps, and whether
// STATE stands where it does not count.
func TestWhatASnapshotSays(t *testing.T) {
	t.Parallel()
	s, client := newScript(t)
	m := follow(t, client, "node-1")
	wrong := configMap(api.GlobalMapName, "5", "")
	wrong["data"], wrong["binaryData"] = object{}, object{"STATE": "UnVubmluZw=="}
	s.next("stream", api.GlobalMapName).send(event("ADDED", wrong)).send(bookmark("5", true))
	got := until(t, m, "the map", func(s lifecycle.Snapshot) bool { return s.Global.Known })
	if got.Namespace != namespace || got.Global.Name != api.GlobalMapName || got.Node.Name != "node-1" {
		t.Errorf("snapshot %+v, want the namespace and both names", got)
	}
	if !got.Global.InBinaryData || got.Global.Value != "" {
		t.Errorf("global map %+v, want no value, and STATE in binaryData", got.Global)
	}
}

func TestMain(m *testing.M) {
	// All of them take seconds; a lock that is never released would hold them up
	// for ten minutes.
	time.AfterFunc(3*time.Minute, func() { panic("the tests hang") })
	os.Exit(m.Run())
}
