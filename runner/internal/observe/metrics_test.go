package observe_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/observe"
)

// Who asks for OpenMetrics gets it. There a counter's name has _total and its family's
// has not, so that no other metric may have the name of the family.
func TestOpenMetrics(t *testing.T) {
	board, metrics, url := serve(t)
	metrics.Queue(new(atomic.Int64), new(atomic.Int64), new(atomic.Int64))
	metrics.Dropped(func() float64 { return 0 })
	metrics.Transition(api.PhaseUnknown, api.PhaseRunning)
	metrics.Problem("global", "invalid")
	board.Heard = time.Now
	board.Publish(api.Status{Phase: api.PhaseRunning, Maps: api.Maps{Global: &api.MapStatus{Readable: true}}, GPUs: []api.GPU{{UUID: "x"}}})
	request, err := http.NewRequest(http.MethodGet, url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/openmetrics-text;version=1.0.0")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if kind := response.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/openmetrics-text; version=1.0.0") {
		t.Errorf("it is %s", kind)
	}

	_, text := get(t, url+"/metrics")
	families := map[string]string{}
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (studioml_\w+) (\w+)$`).FindAllStringSubmatch(text, -1) {
		family := found[1]
		if found[2] == "counter" {
			family = strings.TrimSuffix(family, "_total")
		}
		if other := families[family]; other != "" {
			t.Errorf("%s and %s are of one family", found[1], other)
		}
		families[family] = found[1]
	}
	if len(families) < 15 {
		t.Errorf("there are only %v", families)
	}

	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("needs promtool: apt-get install prometheus")
	}
	var ours strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, "studioml_") && !strings.Contains(line, "_gpu_health") { // its labels are those of dcgm-exporter
			ours.WriteString(line)
		}
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(ours.String())
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// The queue is counted for those who scrape, not more often than is cheap, and what is
// not known any more is not shown.
func TestLengthOfTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := observe.NewBoard(api.Status{})
		metrics := observe.NewMetrics(board)
		var asked, dead atomic.Int64
		var away atomic.Bool
		ctx, cancel := context.WithCancel(t.Context())
		run := metrics.Queued(func(context.Context) (map[api.TaskState]int, error) {
			asked.Add(1)
			time.Sleep(time.Second)
			if away.Load() {
				return nil, errors.New("away")
			}
			return map[api.TaskState]int{api.TaskWaiting: 7, api.TaskDead: int(dead.Load())}, nil
		})
		ended := make(chan error, 1)
		go func() { ended <- run(ctx) }()
		shown := func(after time.Duration) map[string]float64 {
			t.Helper()
			time.Sleep(after)
			families, err := metrics.Registry.Gather()
			synctest.Wait() // it counts again, if it does
			if err != nil {
				t.Fatal(err)
			}
			values := map[string]float64{}
			for _, f := range families {
				for _, m := range f.Metric {
					if f.GetName() == "studioml_runner_queue_tasks" {
						values[m.Label[0].GetValue()] = m.Gauge.GetValue()
					}
				}
			}
			return values
		}
		for _, step := range []struct {
			after time.Duration
			dead  int64
			away  bool
			want  map[string]float64
			asked int64
		}{
			{after: time.Hour, want: map[string]float64{}, asked: 1}, // nobody wanted to know before
			{after: 2 * time.Second, want: map[string]float64{"Waiting": 7, "Dead": 0}, asked: 1},
			{after: time.Minute, dead: 1, want: map[string]float64{"Waiting": 7, "Dead": 0}, asked: 1}, // it took a second
			{after: 5 * time.Minute, dead: 1, want: map[string]float64{"Waiting": 7, "Dead": 1}, asked: 2},
			{after: 5 * time.Minute, away: true, want: map[string]float64{}, asked: 3},
		} {
			dead.Store(step.dead)
			away.Store(step.away)
			if got := shown(step.after); !maps.Equal(got, step.want) || asked.Load() != step.asked {
				t.Errorf("after %s: %v, counted %d times; want %v, %d", step.after, got, asked.Load(), step.want, step.asked)
			}
		}
		time.Sleep(time.Hour) // nobody wants to know any more
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
