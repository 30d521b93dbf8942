package observe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/kube"
	"github.com/studioml/studio-go-runner/runner/internal/observe"
)

// written is what the API server got.
type written struct {
	Metadata                               struct{ Name, Namespace string }
	Regarding, Related                     *struct{ Kind, Name, UID, ResourceVersion string }
	Type, Reason, Action, Note             string
	EventTime                              time.Time
	ReportingController, ReportingInstance string
	Series                                 *struct {
		Count            int
		LastObservedTime time.Time
	}
}

// answer is what becomes of a request on an API server that is not there, as a bubble
// of fake time can have no other.
type answer func(ctx context.Context) (code int, err error)

// events plays with an API server that takes Events, and says what it got.
func events(t *testing.T, pod string, a answer, play func(t *testing.T, e *observe.Events, got func() []written)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var all []written
		client, err := kube.New(&rest.Config{Host: "http://api.invalid", WrapTransport: func(http.RoundTripper) http.RoundTripper {
			return transport(func(r *http.Request) (*http.Response, error) {
				var e written
				if err := json.NewDecoder(r.Body).Decode(&e); err != nil || r.Method != http.MethodPost || r.URL.Path != "/apis/events.k8s.io/v1/namespaces/lab/events" {
					t.Errorf("%s %s: %v", r.Method, r.URL, err)
				}
				if len(e.Note) > 1024 { // the API server refuses those
					t.Errorf("a note of %d bytes", len(e.Note))
				}
				if unfit := validation.IsDNS1123Subdomain(e.Metadata.Name); unfit != nil { // nor those
					t.Errorf("an Event named %q: %q", e.Metadata.Name, unfit)
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
		play(t, observe.NewEvents(client, slog.New(slog.DiscardHandler), "lab", "a", pod, "42"), func() []written {
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
	events(t, "pod-1", taken(50*time.Millisecond, http.StatusCreated), func(t *testing.T, e *observe.Events, got func() []written) {
		e.Problem("node-1", "a problem")
		for range 7 {
			e.Transition(api.Status{Phase: api.PhaseDraining}, "Running to Draining")
		}
		e.Transition(byNode, "Draining to Terminated")
		e.Close()
		all := got()
		if len(all) != 9 {
			t.Fatalf("%d Events after Close, want 9", len(all))
		}
		problem, last := all[0], all[8]
		for _, e := range all[1:8] {
			if e.Related != nil || e.Series != nil || e.Action != "Drain" {
				t.Errorf("%+v", e)
			}
		}
		if problem.Type != "Warning" || problem.Regarding.Kind != "ConfigMap" || problem.Regarding.Name != "node-1" || problem.Related.Name != "pod-1" {
			t.Errorf("%+v", problem)
		}
		if last.Note != "Draining to Terminated" || last.Type != "Normal" || last.Regarding.Kind != "Pod" || last.Regarding.UID != "42" ||
			last.Reason != observe.ReasonTransition || last.Action != "Terminate" || last.EventTime.IsZero() ||
			last.ReportingController != "studioml.io/runner" || last.ReportingInstance != "a" ||
			last.Metadata.Namespace != "lab" || last.Metadata.Name == problem.Metadata.Name {
			t.Errorf("%+v", last)
		}
		if r := last.Related; r == nil || r.Kind != "ConfigMap" || r.Name != "node-1" || r.ResourceVersion != "7" {
			t.Errorf("related %+v, want the node map in version 7", r)
		}
	})
}

var byNode = api.Status{
	Phase: api.PhaseTerminated, Source: api.SourceNode,
	Maps: api.Maps{Global: &api.MapStatus{Name: api.GlobalMapName, ResourceVersion: "6"}, Node: &api.MapStatus{Name: "node-1", ResourceVersion: "7"}},
}

// Outside of a pod it is the map that has decided, or else the global one.
func TestEventsOutsideOfAPod(t *testing.T) {
	events(t, "", taken(0, http.StatusCreated), func(t *testing.T, e *observe.Events, got func() []written) {
		e.Transition(byNode, "x")
		e.Transition(api.Status{Phase: api.PhaseRunning, Source: api.SourceDefault}, "y")
		e.Close()
		var about []string
		for _, e := range got() {
			about = append(about, e.Regarding.Kind+" "+e.Regarding.Name)
		}
		if want := []string{"ConfigMap node-1", "ConfigMap " + api.GlobalMapName}; !slices.Equal(about, want) {
			t.Errorf("about %q, want %q", about, want)
		}
	})
}

// The longest names are cut, wherever that is.
func TestEventsAboutTheLongestNames(t *testing.T) {
	for _, between := range []string{"x", "-", ".", "x--"} {
		name := strings.Repeat("a", 233-len(between)) + between + strings.Repeat("b", 20)
		events(t, name, taken(0, http.StatusCreated), func(t *testing.T, e *observe.Events, got func() []written) {
			e.Transition(byNode, "x")
			e.Close()
			if all := got(); len(all) != 1 || all[0].Regarding.Name != name {
				t.Errorf("%+v", all)
			}
		})
	}
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
			events(t, "pod-1", test.answer, func(t *testing.T, e *observe.Events, got func() []written) {
				e.Transition(api.Status{}, strings.Repeat("ä", 1000))
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

// Who ends begins early, does something else, and then waits: all that takes no longer.
func TestEventsAreClosedMeanwhile(t *testing.T) {
	events(t, "pod-1", taken(time.Hour, http.StatusCreated), func(t *testing.T, e *observe.Events, _ func() []written) {
		e.Transition(api.Status{}, "x")
		begin := time.Now()
		go e.Close()
		time.Sleep(900 * time.Millisecond)
		e.Close()
		if took := time.Since(begin); took != time.Second {
			t.Errorf("Close took %s, want a second", took)
		}
	})
}

// A state that flips does not flood the cluster, nobody waits, and each change is
// counted.
func TestEventsAreLimited(t *testing.T) {
	events(t, "pod-1", taken(0, http.StatusCreated), func(t *testing.T, e *observe.Events, got func() []written) {
		began := time.Now()
		for n := range 500 {
			time.Sleep(10 * time.Microsecond)
			decided := api.Maps{Global: &api.MapStatus{Name: api.GlobalMapName, ResourceVersion: fmt.Sprint(n)}}
			e.Transition(api.Status{Phase: api.PhaseDraining, Source: api.SourceGlobal, Maps: decided}, fmt.Sprint("Running to Draining ", n))
			e.Transition(api.Status{Phase: api.PhaseRunning, Source: api.SourceGlobal, Maps: decided}, fmt.Sprint("Draining to Running ", n))
		}
		e.Close()
		counted := 0
		for _, e := range got() {
			if e.Series == nil {
				counted++
				continue
			}
			counted += e.Series.Count
			if e.EventTime.Before(began) || !e.Series.LastObservedTime.After(e.EventTime) {
				t.Errorf("from %s to %s", e.EventTime, e.Series.LastObservedTime)
			}
			if !strings.HasSuffix(e.Note, " 499") || e.Related.ResourceVersion != "499" {
				t.Errorf("a series says %q, of version %s; want what came last", e.Note, e.Related.ResourceVersion)
			}
		}
		if n := len(got()); n != 27 || counted != 1000 {
			t.Errorf("%d Events for %d changes, want 27 for 1000", n, counted)
		}
	})
}
