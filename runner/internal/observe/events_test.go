package observe_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

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

// events starts an API server that takes Events after a while.
func events(t *testing.T, pod string, answer http.HandlerFunc) (*observe.Events, chan written) {
	t.Helper()
	got := make(chan written, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e written
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil || r.Method != http.MethodPost || r.URL.Path != "/apis/events.k8s.io/v1/namespaces/lab/events" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		if len(e.Note) > 1024 { // the API server refuses those
			t.Errorf("a note of %d bytes", len(e.Note))
		}
		answer(w, r)
		got <- e
	}))
	t.Cleanup(server.Close)
	client, err := kube.New(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return observe.NewEvents(client, slog.New(slog.DiscardHandler), "lab", "a", pod, "42"), got
}

// The last word of a runner is the one that people look for.
func TestTheLastEventIsWritten(t *testing.T) {
	e, got := events(t, "pod-1", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(50 * time.Millisecond) // as far away as the API server is
		w.WriteHeader(http.StatusCreated)
	})
	e.Problem("node-1", "a problem")
	for range 7 {
		e.Transition(api.Status{Phase: api.PhaseDraining}, "Running to Draining")
	}
	e.Transition(byNode, "Draining to Terminated")
	e.Close()
	if len(got) != 9 {
		t.Fatalf("%d Events after Close, want 9", len(got))
	}
	problem := <-got
	for range 7 {
		if e := <-got; e.Related != nil || e.Series != nil || e.Action != "Drain" {
			t.Errorf("%+v", e)
		}
	}
	last := <-got
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
}

var byNode = api.Status{
	Phase: api.PhaseTerminated, Source: api.SourceNode,
	Maps: api.Maps{Global: &api.MapStatus{Name: api.GlobalMapName, ResourceVersion: "6"}, Node: &api.MapStatus{Name: "node-1", ResourceVersion: "7"}},
}

// Outside of a pod it is the map that has decided, or else the global one.
func TestEventsOutsideOfAPod(t *testing.T) {
	e, got := events(t, "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
	e.Transition(byNode, "x")
	e.Transition(api.Status{Phase: api.PhaseRunning, Source: api.SourceDefault}, "y")
	e.Close()
	for _, want := range []string{"node-1", api.GlobalMapName} {
		if e := <-got; e.Regarding.Kind != "ConfigMap" || e.Regarding.Name != want {
			t.Errorf("about %+v, want %s", e.Regarding, want)
		}
	}
}

// An API server that does not answer costs a second, and one that refuses none.
func TestEventsThatCannotBeWritten(t *testing.T) {
	for name, test := range map[string]struct {
		answer  http.HandlerFunc
		longest time.Duration
	}{
		"silent":  {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 1900 * time.Millisecond},
		"refused": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, 900 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			e, got := events(t, "pod-1", test.answer)
			e.Transition(api.Status{}, strings.Repeat("ä", 1000))
			begin := time.Now()
			e.Close()
			if took := time.Since(begin); took > test.longest {
				t.Errorf("Close took %s", took)
			}
			if <-got; len(got) != 0 {
				t.Error("it was tried again")
			}
		})
	}
}

// A state that flips does not flood the cluster, nobody waits, and each change is
// counted.
func TestEventsAreLimited(t *testing.T) {
	e, got := events(t, "pod-1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
	began := time.Now()
	for range 500 {
		e.Transition(api.Status{Phase: api.PhaseDraining}, "Running to Draining")
		e.Transition(api.Status{Phase: api.PhaseRunning}, "Draining to Running")
	}
	e.Close()
	close(got)
	n, counted := 0, 0
	for e := range got {
		n++
		if e.Series == nil {
			counted++
			continue
		}
		counted += e.Series.Count
		if e.EventTime.Before(began.Add(-time.Millisecond)) || !e.Series.LastObservedTime.After(e.EventTime) {
			t.Errorf("from %s to %s", e.EventTime, e.Series.LastObservedTime)
		}
	}
	if n != 27 || counted != 1000 {
		t.Errorf("%d Events for %d changes, want 27 for 1000", n, counted)
	}
}
