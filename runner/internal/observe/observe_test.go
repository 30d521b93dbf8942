package observe_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
	"github.com/studioml/studio-go-runner/runner/internal/observe"
)

func serve(t *testing.T) (*observe.Board, *observe.Metrics, string) {
	t.Helper()
	board := observe.NewBoard(api.Status{Runner: "a", Phase: api.PhaseUnknown, Reason: "reading"})
	metrics := observe.NewMetrics(board)
	server := httptest.NewServer(observe.Handler(board, metrics.Registry))
	t.Cleanup(func() { board.Close(); server.Close() })
	return board, metrics, server.URL
}

func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestProbes(t *testing.T) {
	board, _, url := serve(t)
	for _, test := range []struct {
		phase api.Phase
		ready int
	}{
		{api.PhaseUnknown, 503}, {api.PhaseRunning, 200}, {api.PhaseDraining, 200}, {api.PhaseSuspended, 200}, {api.PhaseTerminated, 200},
	} {
		board.Publish(api.Status{Runner: "a", Phase: test.phase})
		if code, body := get(t, url+"/readyz"); code != test.ready {
			t.Errorf("%s: readyz %d %q, want %d", test.phase, code, body, test.ready)
		}
		if code, _ := get(t, url+"/livez"); code != 200 {
			t.Errorf("%s: livez %d, want 200", test.phase, code)
		}
	}
}

func TestStatusIsTheNewest(t *testing.T) {
	board, _, url := serve(t)
	board.Publish(api.Status{Runner: "a", Phase: api.PhaseRunning})
	_, body := get(t, url+"/statusz")
	var s api.Status
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatal(err)
	}
	if s.Phase != api.PhaseRunning || s.Sequence != 1 || s.Since.IsZero() {
		t.Errorf("status %+v", s)
	}
}

func TestTheStreamHasEveryChangeAndTheLastWord(t *testing.T) {
	board, _, url := serve(t)
	response, err := http.Get(url + "/statusz?watch=true")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	next := func() (s api.Status, ok bool) {
		if !lines.Scan() {
			return s, false
		}
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		return s, true
	}
	if s, ok := next(); !ok || s.Phase != api.PhaseUnknown {
		t.Fatalf("first status %+v", s)
	}
	phases := []api.Phase{api.PhaseRunning, api.PhaseDraining, api.PhaseTerminated}
	for _, p := range phases {
		board.Publish(api.Status{Runner: "a", Phase: p})
		board.Publish(api.Status{Runner: "a", Phase: p}) // no change, no line
	}
	board.Close()
	for i, p := range phases {
		if s, ok := next(); !ok || s.Phase != p || s.Sequence != uint64(i+1) {
			t.Errorf("status %d is %s with sequence %d, want %s", i, s.Phase, s.Sequence, p)
		}
	}
	if s, ok := next(); ok {
		t.Errorf("one more status: %+v", s)
	}
}

// Nothing is shown that is not known, and what is not known is not news.
func TestAtTheStart(t *testing.T) {
	board, _, url := serve(t)
	if s := board.Latest(); s.Since.IsZero() || s.Time.IsZero() {
		t.Errorf("%+v", s)
	}
	_, before := get(t, url+"/metrics")
	_, status := get(t, url+"/statusz")
	for _, wrong := range []string{`"since": "0001`, `"time": "0001`, `"heard"`, "apiserver_heard", "since_timestamp_seconds -"} {
		if strings.Contains(status+before, wrong) {
			t.Errorf("%s is shown:\n%s\n%s", wrong, status, before)
		}
	}
	heard := time.Now()
	board.Heard = func() time.Time { return heard }
	board.Publish(board.Latest())
	if s := board.Latest(); s.Sequence != 0 || !s.Heard.Equal(heard) {
		t.Errorf("that something was heard makes a change: %+v", s)
	}
	if _, after := get(t, url+"/metrics"); !strings.Contains(after, "\nstudioml_runner_apiserver_heard_timestamp_seconds 1.") {
		t.Error("no metric of when the API server was heard")
	}
}

func TestMetricsAgreeWithTheStatus(t *testing.T) {
	board, metrics, url := serve(t)
	board.Publish(api.Status{
		Phase: api.PhaseDraining, Effective: api.DrainAndSuspend,
		Maps:  api.Maps{Global: &api.MapStatus{Readable: true, ResourceVersion: "42"}},
		Tasks: api.TaskCounts{Running: 2, Started: 5, Succeeded: 3},
		GPUs:  []api.GPU{{UUID: "x", Task: "t"}, {UUID: "y"}},
	})
	metrics.Transition(api.PhaseRunning, api.PhaseDraining)
	metrics.Transition(api.PhaseDraining, api.PhaseDraining)
	metrics.Problem("studioml-go-runner", "invalid")
	_, body := get(t, url+"/metrics")
	for _, want := range []string{
		`studioml_runner_phase{phase="Draining"} 1`,
		`studioml_runner_phase{phase="Running"} 0`,
		`studioml_runner_effective_state{state="DrainAndSuspend"} 1`,
		`studioml_runner_map_resource_version{map="global"} 42`,
		`studioml_runner_map_readable{map="global"} 1`,
		`studioml_runner_map_problem{map="global"} 0`,
		`studioml_runner_tasks_held{stage="running"} 2`,
		`studioml_runner_tasks_total{ending="succeeded"} 3`,
		`studioml_runner_attempts_started_total 5`,
		`studioml_runner_gpus 2`,
		`studioml_runner_gpus_busy 1`,
		`studioml_runner_transitions_total{from="Running",to="Draining"} 1`,
		`studioml_runner_map_problems_total{kind="invalid",map="studioml-go-runner"} 1`,
		`process_resident_memory_bytes `,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(body, `from="Draining",to="Draining"`) {
		t.Error("a transition that is none was counted")
	}
}

func TestTerminationMessage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := observe.TerminationMessage(path, "unread", false); err != nil {
		t.Errorf("without a file: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a file was made that nobody asked for")
	}
	for _, text := range []string{"a long sentence", "short"} {
		if err := observe.TerminationMessage(path, text, true); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("message %q, want %q", got, text)
		}
	}
	if err := observe.TerminationMessage(t.TempDir(), "x", false); err == nil {
		t.Error("a directory was written to")
	}
}

// The names, labels and units are those of dcgm-exporter.
func TestLoadOfGPUs(t *testing.T) {
	_, metrics, url := serve(t)
	metrics.Registry.MustRegister(observe.GPULoad(func() []gpu.Reading {
		return []gpu.Reading{
			{UUID: "GPU-a", Model: "T4", Values: []gpu.Value{{Name: "GPU_TEMP", Value: 40}, {Name: "POWER_USAGE", Value: 12.5}, {Name: "XID_ERRORS"}}},
			{UUID: "GPU-b", Model: "T4", Index: 1, Values: []gpu.Value{{Name: "XID_ERRORS", Value: 79}}},
		}
	}))
	_, body := get(t, url+"/metrics")
	for _, want := range []string{"GPU_TEMP#a 40", "POWER_USAGE#a 12.5", "XID_ERRORS#a 0", "XID_ERRORS#b 79"} {
		want = strings.NewReplacer("#a", `{UUID="GPU-a",gpu="0",modelName="T4"}`, "#b", `{UUID="GPU-b",gpu="1",modelName="T4"}`).Replace(want)
		if !strings.Contains(body, "\nDCGM_FI_DEV_"+want+"\n") {
			t.Errorf("there is no DCGM_FI_DEV_%s", want)
		}
	}
}
