package observe_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"

	"github.com/studioml/studio-go-runner/runner/internal/kube"
	"github.com/studioml/studio-go-runner/runner/internal/observe"
)

// written is what the API server got.
type written struct {
	Metadata struct{ Name, Namespace string }
	About    struct{ Kind, Name, UID string } `json:"involvedObject"`
	Type     string
	Reason   string
	Message  string
	Count    int
}

// answer is what becomes of a request on an API server that is not there, as a bubble
// of fake time can have no other.
type answer func(ctx context.Context) (code int, err error)

// events plays with an API server that takes Events, and says what it got.
func events(t *testing.T, a answer, play func(t *testing.T, e *observe.Events, got func() []written)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var all []written
		client, err := kube.New(&rest.Config{Host: "http://api.invalid", WrapTransport: func(http.RoundTripper) http.RoundTripper {
			return transport(func(r *http.Request) (*http.Response, error) {
				var e written
				if err := json.NewDecoder(r.Body).Decode(&e); err != nil || r.Method != http.MethodPost || r.URL.Path != "/api/v1/namespaces/lab/events" {
					t.Errorf("%s %s: %v", r.Method, r.URL, err)
				}
				code, err := a(r.Context())
				mu.Lock()
				defer mu.Unlock()
				all = append(all, e)
				return &http.Response{StatusCode: code, Request: r, Body: io.NopCloser(strings.NewReader("{}"))}, err
			})
		}})
		if err != nil {
			t.Fatal(err)
		}
		play(t, observe.NewEvents(client, slog.New(slog.DiscardHandler), "lab", "a", "pod-1", "42"), func() []written {
			mu.Lock()
			defer mu.Unlock()
			return all
		})
	})
}

// transport answers without a network.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// taken is how a server answers that has got the Event after so long.
func taken(after time.Duration, code int) answer {
	return func(ctx context.Context) (int, error) {
		select {
		case <-time.After(after):
			return code, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// The last word of a runner is the one that people look for.
func TestTheLastEventIsWritten(t *testing.T) {
	events(t, taken(50*time.Millisecond, http.StatusCreated), func(t *testing.T, e *observe.Events, got func() []written) {
		e.Problem("node-1", "a problem")
		for range 7 {
			e.Transition("Running to Draining")
		}
		e.Transition("Draining to Terminated")
		e.Close()
		all := got()
		if len(all) != 9 {
			t.Fatalf("%d Events after Close, want 9", len(all))
		}
		problem, last := all[0], all[8]
		if problem.Type != "Warning" || problem.About.Kind != "ConfigMap" || problem.About.Name != "node-1" {
			t.Errorf("%+v", problem)
		}
		if last.Message != "Draining to Terminated" || last.Type != "Normal" || last.About.Kind != "Pod" || last.About.UID != "42" ||
			last.Reason != observe.ReasonTransition || last.Count != 1 || last.Metadata.Namespace != "lab" || last.Metadata.Name == problem.Metadata.Name {
			t.Errorf("%+v", last)
		}
	})
}

// An API server that does not answer costs a second, and one that refuses none.
func TestEventsThatCannotBeWritten(t *testing.T) {
	for name, test := range map[string]struct {
		answer answer
		takes  time.Duration
	}{
		"silent":  {taken(time.Hour, http.StatusCreated), time.Second},
		"refused": {taken(0, http.StatusForbidden), 0},
	} {
		t.Run(name, func(t *testing.T) {
			events(t, test.answer, func(t *testing.T, e *observe.Events, got func() []written) {
				e.Transition("x")
				begin := time.Now()
				e.Close()
				if took := time.Since(begin); took != test.takes {
					t.Errorf("Close took %s, want %s", took, test.takes)
				}
				if n := len(got()); n != 1 {
					t.Errorf("it was tried %d times", n)
				}
			})
		})
	}
}

// A state that flips does not flood the cluster, and nobody waits.
func TestEventsAreLimited(t *testing.T) {
	events(t, taken(0, http.StatusCreated), func(t *testing.T, e *observe.Events, got func() []written) {
		for range 1000 {
			e.Transition("Running to Draining")
		}
		e.Close()
		if n := len(got()); n != 25 {
			t.Errorf("%d Events, want 25", n)
		}
	})
}
