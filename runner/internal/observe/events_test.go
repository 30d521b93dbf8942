package observe_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
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

// events starts an API server that takes Events after a while.
func events(t *testing.T, answer http.HandlerFunc) (*observe.Events, <-chan written) {
	t.Helper()
	got := make(chan written, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e written
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil || r.Method != http.MethodPost || r.URL.Path != "/api/v1/namespaces/lab/events" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		answer(w, r)
		got <- e
	}))
	t.Cleanup(server.Close)
	client, err := kube.New(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return observe.NewEvents(client, slog.New(slog.DiscardHandler), "lab", "a", "pod-1", "42"), got
}

// The last word of a runner is the one that people look for.
func TestTheLastEventIsWritten(t *testing.T) {
	e, got := events(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(50 * time.Millisecond) // as far away as the API server is
		w.WriteHeader(http.StatusCreated)
	})
	e.Problem("node-1", "a problem")
	for range 7 {
		e.Transition("Running to Draining")
	}
	e.Transition("Draining to Terminated")
	e.Close()
	if len(got) != 9 {
		t.Fatalf("%d Events after Close, want 9", len(got))
	}
	problem := <-got
	for range 7 {
		<-got
	}
	last := <-got
	if problem.Type != "Warning" || problem.About.Kind != "ConfigMap" || problem.About.Name != "node-1" {
		t.Errorf("%+v", problem)
	}
	if last.Message != "Draining to Terminated" || last.Type != "Normal" || last.About.Kind != "Pod" || last.About.UID != "42" ||
		last.Reason != observe.ReasonTransition || last.Count != 1 || last.Metadata.Namespace != "lab" || last.Metadata.Name == problem.Metadata.Name {
		t.Errorf("%+v", last)
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
			e, got := events(t, test.answer)
			e.Transition("x")
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

// A state that flips does not flood the cluster, and nobody waits.
func TestEventsAreLimited(t *testing.T) {
	e, got := events(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
	for range 1000 {
		e.Transition("Running to Draining")
	}
	e.Close()
	if n := len(got); n != 25 {
		t.Errorf("%d Events, want 25", n)
	}
}
