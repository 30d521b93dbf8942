package deploy_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/deploy"
	"github.com/studioml/studio-go-runner/runner/internal/observe"
)

const scrapedEvery = 15 * time.Minute

// watched is a runner as its metrics show it, for as long as a story of alerts takes.
type watched struct {
	board      *observe.Board
	metrics    *observe.Metrics
	status     api.Status // published with each change
	late, lost atomic.Int64
	dead       atomic.Int64        // letters in the queue
	series     map[string][]string // values by name and labels; "_" for none
	samples    int
	began      time.Time
}

// passes lets time go by, and scrapes the runner meanwhile.
func (w *watched) passes(t *testing.T, d time.Duration) {
	w.board.Publish(w.status)
	for range d / scrapedEvery {
		time.Sleep(scrapedEvery)
		synctest.Wait()
		w.scrape(t)
	}
}

func (w *watched) scrape(t *testing.T) {
	answer := httptest.NewRecorder()
	observe.Handler(w.board, w.metrics.Registry).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for name, family := range families {
		if !strings.HasPrefix(name, "studioml_") {
			continue
		}
		for _, m := range family.Metric {
			labels := []string{`namespace="lab"`, `pod="runner-0"`}
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			slices.Sort(labels)
			value := cmp.Or(m.Counter.GetValue(), m.Gauge.GetValue())
			if strings.HasSuffix(name, "_timestamp_seconds") { // promtool begins in 1970
				value -= float64(w.began.Unix())
			}
			key := name + "{" + strings.Join(labels, ",") + "}"
			for len(w.series[key]) < w.samples {
				w.series[key] = append(w.series[key], "_")
			}
			w.series[key] = append(w.series[key], fmt.Sprint(value))
		}
	}
	w.samples++
}

// Each alert fires when it should, by what a runner really shows, and not before: one
// of a metric that no runner has would never fire.
func TestAlerts(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("needs promtool: apt-get install prometheus")
	}
	var object struct {
		Spec struct {
			Groups []struct {
				Rules []struct {
					Alert       string
					Annotations map[string]string
				}
			}
		}
	}
	text, err := deploy.Files.ReadFile("monitoring/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	// As FLEET.md takes them, for those without the operator.
	_, rules, _ := strings.Cut(string(text), "\nspec:\n")
	rules = strings.ReplaceAll("\n"+rules, "\n  ", "\n")

	stories := []struct {
		name  string
		fires string // one alert at the end; none if empty
		tell  func(w *watched, passes func(time.Duration))
	}{
		{"all is well", "", func(w *watched, passes func(time.Duration)) { w.dead.Store(3); passes(26 * time.Hour) }},
		{"suspended for a while", "", func(w *watched, passes func(time.Duration)) {
			passes(23 * time.Hour)
			w.status.Phase = api.PhaseSuspended
			passes(3 * time.Hour)
		}},
		{"suspended for long", "StudioMLRunnerSuspendedLong", func(w *watched, passes func(time.Duration)) {
			w.status.Phase = api.PhaseSuspended
			passes(25 * time.Hour)
		}},
		{"a long drain", "StudioMLRunnerDrainDoesNotEnd", func(w *watched, passes func(time.Duration)) {
			w.status.Phase = api.PhaseDraining
			passes(7 * time.Hour)
		}},
		{"an invalid value", "StudioMLRunnerMapProblem", func(w *watched, passes func(time.Duration)) {
			passes(time.Hour)
			w.status.Maps.Global = &api.MapStatus{Readable: true, Problem: "STATE is no state"}
			passes(30 * time.Minute)
		}},
		{"no map was read", "StudioMLRunnerStateUnknown", func(w *watched, passes func(time.Duration)) {
			w.status.Phase = api.PhaseUnknown
			passes(30 * time.Minute)
		}},
		{"a silent API server", "StudioMLRunnerAPIServerNotHeard", func(w *watched, passes func(time.Duration)) {
			passes(time.Hour)
			last := time.Now()
			w.board.Heard = func() time.Time { return last }
			passes(30 * time.Minute)
		}},
		{"a lost GPU", "StudioMLRunnerGPULost", func(w *watched, passes func(time.Duration)) {
			passes(time.Hour)
			w.status.GPUs = []api.GPU{{UUID: "GPU-a", Health: api.Healthy}, {UUID: "GPU-b", Index: 1, Health: api.Sick}}
			passes(30 * time.Minute)
		}},
		{"a dead letter", "StudioMLQueueDeadLetters", func(w *watched, passes func(time.Duration)) {
			w.dead.Store(3)
			passes(2 * time.Hour)
			w.dead.Store(4)
			passes(30 * time.Minute)
		}},
		{"a dead letter of the day before", "", func(w *watched, passes func(time.Duration)) {
			passes(time.Hour)
			w.dead.Store(1)
			passes(24 * time.Hour)
		}},
		{"a silent queue", "StudioMLQueueNotHeard", func(w *watched, passes func(time.Duration)) {
			passes(time.Hour)
			w.late.Store(2)
			passes(30 * time.Minute)
		}},
		{"a claim was lost", "StudioMLQueueClaimsLost", func(w *watched, passes func(time.Duration)) {
			passes(time.Hour)
			w.lost.Add(1)
			passes(30 * time.Minute)
		}},
	}
	type sample struct {
		Labels string `json:"labels"`
		Value  int    `json:"value"`
	}
	type expectation struct {
		Expr    string   `json:"expr"`
		At      string   `json:"eval_time"`
		Samples []sample `json:"exp_samples"`
	}
	type series struct {
		Series string `json:"series"`
		Values string `json:"values"`
	}
	type story struct {
		Name     string        `json:"name"`
		Interval string        `json:"interval"`
		Series   []series      `json:"input_series"`
		Expect   []expectation `json:"promql_expr_test"`
	}
	var told []story
	fired := map[string]bool{}
	known := map[string]bool{} // labels
	for _, s := range stories {
		fired[s.fires] = true
		synctest.Test(t, func(t *testing.T) {
			w := watched{series: map[string][]string{}, began: time.Now().Add(scrapedEvery)}
			w.status = api.Status{Phase: api.PhaseRunning, Effective: api.Running,
				Maps: api.Maps{Global: &api.MapStatus{Readable: true}, Node: &api.MapStatus{Readable: true}}, GPUs: []api.GPU{{UUID: "GPU-a", Health: api.Healthy}}}
			w.board = observe.NewBoard(api.Status{Phase: api.PhaseUnknown})
			w.board.Heard = time.Now
			w.metrics = observe.NewMetrics(w.board)
			w.metrics.Queue(new(atomic.Int64), &w.lost, &w.late)
			counting, stop := context.WithCancel(t.Context())
			count := w.metrics.Queued(func(context.Context) (map[api.TaskState]int, error) {
				return map[api.TaskState]int{api.TaskWaiting: 7, api.TaskDead: int(w.dead.Load())}, nil
			})
			ended := make(chan error, 1)
			go func() { ended <- count(counting) }()
			s.tell(&w, func(d time.Duration) { w.passes(t, d) })
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			last := scrapedEvery * time.Duration(w.samples-1)
			one := story{s.name, model.Duration(scrapedEvery).String(), nil, []expectation{{`count by (alertname) (ALERTS{alertstate="firing"})`, model.Duration(last).String(), nil}}}
			if s.fires != "" {
				one.Expect[0].Samples = []sample{{fmt.Sprintf("{alertname=%q}", s.fires), 1}}
			}
			for name, values := range w.series {
				one.Series = append(one.Series, series{name, strings.Join(values, " ")})
				for _, found := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(name, -1) {
					known[found[1]] = true
				}
			}
			told = append(told, one)
		})
	}
	for _, rule := range object.Spec.Groups[0].Rules {
		if !fired[rule.Alert] {
			t.Errorf("no story is about %s", rule.Alert)
		}
		for _, text := range rule.Annotations {
			for _, found := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
				if !known[found[1]] {
					t.Errorf("%s: no metric has the label %s", rule.Alert, found[1])
				}
			}
		}
	}

	dir := t.TempDir()
	tests, err := yaml.Marshal(map[string]any{"rule_files": []string{"rules.yaml"}, "evaluation_interval": model.Duration(scrapedEvery).String(), "tests": told})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"rules.yaml": rules, "tests.yaml": string(tests)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, words := range [][]string{{"check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"}, {"test", "rules", "tests.yaml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, words...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(words, " "), err, out)
		}
	}
}

// The port that is scraped is one of every runner, and the alerts come along.
func TestMonitoring(t *testing.T) {
	var monitor struct {
		APIVersion, Kind string
		Metadata         any
		Spec             struct {
			Selector            struct{ MatchLabels map[string]string }
			PodMetricsEndpoints []struct{ Port, Interval string }
		}
	}
	text, err := deploy.Files.ReadFile("monitoring/podmonitor.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &monitor); err != nil {
		t.Fatal(err)
	}
	for _, name := range workloads {
		pod := template(t, build(t, filesys.MakeFsOnDisk(), name))
		for key, value := range monitor.Spec.Selector.MatchLabels {
			if pod.Labels[key] != value {
				t.Errorf("it selects %s=%s, which the pods of %s do not have", key, value, name)
			}
		}
		if port := pod.Spec.Containers[0].Ports[0].Name; port != monitor.Spec.PodMetricsEndpoints[0].Port {
			t.Errorf("it scrapes the port %s, and %s has %s", monitor.Spec.PodMetricsEndpoints[0].Port, name, port)
		}
		dir := overlaid(t, "namespace: lab\nresources: [DEPLOY/"+name+"]\ncomponents: [DEPLOY/monitoring]\n")
		resources := kustomize(t, filesys.MakeFsOnDisk(), dir)
		for _, kind := range []string{"PodMonitor", "PrometheusRule"} {
			if !slices.ContainsFunc(resources.Resources(), func(r *resource.Resource) bool { return r.GetKind() == kind && r.GetNamespace() == "lab" }) {
				t.Errorf("%s with the component has no %s", name, kind)
			}
		}
	}
}
