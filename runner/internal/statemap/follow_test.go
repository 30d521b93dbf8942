package statemap_test

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
	"github.com/studioml/studio-go-runner/runner/internal/logtest"
	"github.com/studioml/studio-go-runner/runner/internal/statemap"
)

// A map that is gone has been gone since it went, however often it is looked
// for: the settle window (R6) counts from there.
func TestALaterListDoesNotRenewTheDeletion(t *testing.T) {
	t.Parallel()
	const name = api.GlobalMapName
	s, client := newScript(t)
	m := follow(t, client, "")
	stream := s.first(name, "6", ConfigMap(name, "5", "Running"))
	until(t, m, "the map", func(s lifecycle.Snapshot) bool { return s.Global.Present })
	stream.send(event("DELETED", ConfigMap(name, "7", "Running")))
	gone := until(t, m, "the deletion", func(s lifecycle.Snapshot) bool { return !s.Global.Present }).Global.Gone
	for _, version := range []string{"8", "9"} {
		stream.send(event("ERROR", status(http.StatusGone, metav1.StatusReasonExpired))).end()
		// It was absent before, so nobody asks whether the namespace goes with it.
		s.next("list", name).send(object{"metadata": object{"resourceVersion": version}}).end()
		stream = s.next("watch", name)
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
		stream := s.first(name, "5", ConfigMap(name, "5", "Running"))
		until(t, m, "the map", func(s lifecycle.Snapshot) bool { return s.Global.Present })
		stream.send(event("ERROR", status(http.StatusGone, metav1.StatusReasonExpired))).end()
		s.first(name, listed)
		gone := until(t, m, "the list", func(s lifecycle.Snapshot) bool { return !s.Global.Present })
		if gone.Global.ResourceVersion != want {
			t.Errorf("version %q after an empty list of version %q, want %q", gone.Global.ResourceVersion, listed, want)
		}
	}
}

// What is listed counts, and a watch that is served says that it can be read.
func TestAListEndsWhatWasUnreadable(t *testing.T) {
	t.Parallel()
	for what, items := range map[string][]object{"a map": {ConfigMap(api.GlobalMapName, "5", "Running")}, "no map": nil} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			const name = api.GlobalMapName
			s, client := newScript(t)
			m := follow(t, client, "")
			s.next("list", name).refuse(http.StatusForbidden, metav1.StatusReasonForbidden)
			denied := until(t, m, "the missing right", func(s lifecycle.Snapshot) bool { return s.Global.Unreadable != "" })
			if want := "not allowed to list configmaps"; !strings.Contains(denied.Global.Unreadable, want) || denied.Global.Denied.IsZero() {
				t.Errorf("%+v, want unreadable: %s", denied.Global, want)
			}
			s.first(name, "5", items...).send(bookmark("5"))
			until(t, m, "what was listed", func(s lifecycle.Snapshot) bool {
				return s.Global.Known && s.Global.Present == (items != nil) && s.Global.Unreadable == "" && s.Global.Denied.IsZero()
			})
		})
	}
}

// A watch that is served says that the map can be read, though nothing changes.
func TestAWatchEndsWhatWasUnreadable(t *testing.T) {
	t.Parallel()
	const name = api.GlobalMapName
	s, client := newScript(t)
	var log logtest.Text
	m := followWith(t, statemap.New(client, namespace, "", slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	s.first(name, "5", ConfigMap(name, "5", "Running")).
		send(event("MODIFIED", ConfigMap(name, "6", "Running"))).end()
	s.next("watch", name).refuse(http.StatusForbidden, metav1.StatusReasonForbidden)
	until(t, m, "the missing right", func(s lifecycle.Snapshot) bool { return !s.Global.Denied.IsZero() })
	if !strings.Contains(log.String(), `level=DEBUG msg="map unreadable" map=studioml-go-runner verb=watch error="the API server answers 403 Forbidden: no"`) {
		t.Errorf("log %q, want that the map is unreadable", log.String())
	}
	// Another reason is not a lack of rights.
	s.first(name, "6", ConfigMap(name, "6", "Running")).refuse(http.StatusInternalServerError, metav1.StatusReasonInternalError)
	until(t, m, "the outage", func(s lifecycle.Snapshot) bool { return s.Global.Unreadable != "" && s.Global.Denied.IsZero() })
	s.list(name, "7", ConfigMap(name, "6", "Running"))
	c := s.next("watch", name)
	c.w.WriteHeader(http.StatusOK)
	c.w.(http.Flusher).Flush()
	until(t, m, "the return", func(s lifecycle.Snapshot) bool { return s.Global.Unreadable == "" && s.Global.Value == "Running" })
}

// When a map can be read again, what is so counts, and nobody is told what was in
// between: it may be a drain that is over.
func TestAfterAnOutageWhatIsSoCounts(t *testing.T) {
	t.Parallel()
	const name = api.GlobalMapName
	s, client := newScript(t)
	m := follow(t, client, "")
	s.first(name, "5", ConfigMap(name, "5", "Running")).send(bookmark("5")).end()
	until(t, m, "the map", func(s lifecycle.Snapshot) bool { return s.Global.Value == "Running" })
	s.next("watch", name).refuse(http.StatusInternalServerError, metav1.StatusReasonInternalError)
	until(t, m, "the outage", func(s lifecycle.Snapshot) bool { return s.Global.Unreadable != "" })
	// A server that goes on with the watch of before would tell all of it.
	s.first(name, "9", ConfigMap(name, "8", "DrainAndSuspend")).send(bookmark("9"))
	until(t, m, "what is so", func(s lifecycle.Snapshot) bool {
		return s.Global.Value == "DrainAndSuspend" && s.Global.Unreadable == ""
	})
}

// What the server asks for, be it an hour, does not keep a runner deaf, and
// nobody takes it for readable meanwhile.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	const name = api.GlobalMapName
	for _, code := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			s, client := newScript(t)
			m := follow(t, client, "")
			s.first(name, "5", ConfigMap(name, "5", "Running")).end()
			until(t, m, "the map", func(s lifecycle.Snapshot) bool { return s.Global.Present && s.Global.Unreadable == "" })
			var last time.Time
			var asked time.Duration
			for _, refused := range []struct {
				verb, later string
				pause       time.Duration
			}{{"watch", "1", time.Second}, {"list", "3600", 2 * time.Second}, {"list", "some day", 2 * time.Second}} {
				c := s.next(refused.verb, name)
				if took := time.Since(last); took < asked {
					t.Errorf("asked again after %s, as if nobody had asked for a pause of %s", took, asked)
				}
				c.w.Header().Set("Retry-After", refused.later)
				last, asked = time.Now(), refused.pause
				c.refuse(code, "")
			}
			last = time.Now()
			until(t, m, "the refusal", func(s lifecycle.Snapshot) bool {
				return strings.Contains(s.Global.Unreadable, "the API server answers "+strconv.Itoa(code)) && s.Global.Value == "Running"
			})
			s.first(name, "6", ConfigMap(name, "6", "DrainAndSuspend")).send(bookmark("6"))
			if took := time.Since(last); took > time.Minute { // and not after an hour
				t.Errorf("asked again after %s", took)
			}
			until(t, m, "the change", func(s lifecycle.Snapshot) bool {
				return s.Global.Value == "DrainAndSuspend" && s.Global.Unreadable == ""
			})
		})
	}
}

// What a watch asks for, and that one which breaks off is told, to those who
// look for it, and one whose time is up is not.
func TestWatchesThatEnd(t *testing.T) {
	t.Parallel()
	const name = api.GlobalMapName
	s, client := newScript(t)
	var log logtest.Text
	followWith(t, statemap.New(client, namespace, "", slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	watch := s.first(name, "5", ConfigMap(name, "5", "Running"))
	for range 2 {
		q := watch.URL.Query()
		seconds, _ := strconv.Atoi(q.Get("timeoutSeconds"))
		if q.Get("allowWatchBookmarks") != "true" || q.Get("resourceVersion") != "5" || seconds < 120 || seconds > 240 {
			t.Errorf("watch with %v, want bookmarks, from 5 on, for 2 to 4 minutes", q)
		}
		if text := log.String(); strings.Contains(text, "watch ended") {
			t.Errorf("log %q of a watch whose time was up", text)
		}
		watch.w.WriteHeader(http.StatusOK)
		watch.w.(http.Flusher).Flush()
		watch.end()
		watch = s.next("watch", name)
	}
	_, _ = watch.w.Write([]byte(`{"type":`))
	watch.end()
	s.next("watch", name)
	if text := log.String(); strings.Count(text, `level=DEBUG msg="watch ended" map=studioml-go-runner reason=`) != 1 {
		t.Errorf("log %q, want once that the watch ended", text)
	}
}

// It is short watches that make it list again, and not many.
func TestWatchesThatLastGoOn(t *testing.T) {
	t.Parallel()
	const name = api.GlobalMapName
	s, client := newScript(t)
	follow(t, client, "")
	watch := s.first(name, "5", ConfigMap(name, "5", "Running"))
	for range 5 {
		watch.w.WriteHeader(http.StatusOK)
		watch.w.(http.Flusher).Flush()
		time.Sleep(1050 * time.Millisecond) // for so long it lasts
		watch.end()
		watch = s.next("watch", name)
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

// What each snapshot has: its namespace, the names of both maps, and whether
// STATE stands where it does not count.
func TestWhatASnapshotSays(t *testing.T) {
	t.Parallel()
	s, client := newScript(t)
	m := follow(t, client, "node-1")
	wrong := ConfigMap(api.GlobalMapName, "5", "")
	wrong["data"], wrong["binaryData"] = object{}, object{"STATE": "UnVubmluZw=="}
	s.first(api.GlobalMapName, "5", wrong)
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
	time.AfterFunc(8*time.Minute, func() { panic("the tests hang") })
	os.Exit(m.Run())
}
