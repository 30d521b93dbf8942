package observe

import (
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Metrics counts what the status document does not.
type Metrics struct {
	Registry    *prometheus.Registry
	transitions *prometheus.CounterVec
	problems    *prometheus.CounterVec
}

const namespace = "studioml_runner"

// NewMetrics returns a registry with the metrics of the process, of the board's
// status and the counters of Metrics.
func NewMetrics(board *Board) *Metrics {
	m := &Metrics{
		Registry: prometheus.NewRegistry(),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "transitions_total", Help: "Changes of the runner's phase.",
		}, []string{"from", "to"}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "map_problems_total",
			Help: "How often a ConfigMap began to be invalid, misplaced in binaryData, or unreadable.",
		}, []string{"map", "kind"}),
	}
	m.Registry.MustRegister(m.transitions, m.problems, statusCollector{board},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Dropped shows how many lines the log has lost.
func (m *Metrics) Dropped(count func() float64) {
	m.Registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: namespace, Name: "log_lines_dropped_total", Help: "Log lines that were dropped because nobody took them.",
	}, count))
}

// Queue shows how it stands with the server of the queue.
func (m *Metrics) Queue(failures, lost, late *atomic.Int64) {
	value := func(of *atomic.Int64) func() float64 { return func() float64 { return float64(of.Load()) } }
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: namespace, Name: name, Help: help}
	}
	m.Registry.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts(opts("queue_failures_total", "Statements that the queue's server refused or did not answer.")), value(failures)),
		prometheus.NewCounterFunc(prometheus.CounterOpts(opts("claims_lost_total", "Tasks that became another runner's while this one had them.")), value(lost)),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("ends_untold", "Ends of tasks that the queue's server has not taken yet.")), value(late)),
	)
}

// Transition counts a change of the phase.
func (m *Metrics) Transition(from, to api.Phase) {
	if from != to {
		m.transitions.WithLabelValues(string(from), string(to)).Inc()
	}
}

// Problem counts that the global or the node map began to have a problem.
func (m *Metrics) Problem(scope, kind string) {
	m.problems.WithLabelValues(scope, kind).Inc()
}

// statusCollector reads the status when it is scraped, so that metrics and
// /statusz cannot disagree.
type statusCollector struct{ board *Board }

var (
	descPhase     = desc("phase", "1 for the phase that the runner is in, 0 for the others.", "phase")
	descSince     = desc("phase_since_timestamp_seconds", "When the runner entered its phase, as Unix time.")
	descEffective = desc("effective_state", "1 for the state that the maps ask for, 0 for the others.", "state")
	descVersion   = desc("map_resource_version", "The newest resourceVersion seen of a ConfigMap.", "map")
	descReadable  = desc("map_readable", "Whether a ConfigMap can be read.", "map")
	descHeard     = desc("apiserver_heard_timestamp_seconds", "When the last byte came from the API server, as Unix time.")
	descTasks     = desc("tasks", "Tasks that this runner holds.", "stage")
	descEnded     = desc("tasks_total", "Tasks that left this runner.", "ending")
	descStarted   = desc("attempts_started_total", "Attempts begun.")
	descGPUs      = desc("gpus", "GPUs that tasks can have.")
	descHealth    = desc("gpu_health", "1 for the health that a GPU or MIG device has, 0 for the others.", "gpu", "UUID", "modelName", "health")
	descGPUsBusy  = desc("gpus_busy", "GPUs that tasks hold.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

// Describe implements prometheus.Collector.
func (c statusCollector) Describe(ch chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(c, ch)
}

// Collect implements prometheus.Collector.
func (c statusCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.board.Latest()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for _, p := range []api.Phase{api.PhaseUnknown, api.PhaseRunning, api.PhaseDraining, api.PhaseSuspended, api.PhaseTerminated} {
		gauge(descPhase, truth(s.Phase == p), string(p))
	}
	gauge(descSince, float64(s.Since.UnixMilli())/1000)
	if !s.Heard.IsZero() {
		gauge(descHeard, float64(s.Heard.UnixMilli())/1000)
	}
	for _, e := range api.States {
		gauge(descEffective, truth(s.Effective == e), string(e))
	}
	for label, m := range map[string]*api.MapStatus{"global": s.Maps.Global, "node": s.Maps.Node} {
		if m == nil {
			continue
		}
		gauge(descReadable, truth(m.Readable), label)
		if v, err := strconv.ParseFloat(m.ResourceVersion, 64); err == nil {
			gauge(descVersion, v, label)
		}
	}
	gauge(descTasks, float64(s.Tasks.Running), "running")
	gauge(descTasks, float64(s.Tasks.Waiting), "waiting")
	counter(descStarted, s.Tasks.Started)
	counter(descEnded, s.Tasks.Succeeded, "succeeded")
	counter(descEnded, s.Tasks.Failed, "failed")
	counter(descEnded, s.Tasks.MachineFailed, "machine_failed")
	counter(descEnded, s.Tasks.Cancelled, "cancelled")
	counter(descEnded, s.Tasks.Requeued, "requeued")
	busy := 0
	for _, g := range s.GPUs {
		if g.Task != "" {
			busy++
		}
	}
	for _, g := range s.GPUs {
		for _, h := range []api.Health{api.Healthy, api.Retiring, api.Sick} {
			gauge(descHealth, truth(g.Health == h), strconv.Itoa(g.Index), g.UUID, g.Model, string(h))
		}
	}
	gauge(descGPUs, float64(len(s.GPUs)))
	gauge(descGPUsBusy, float64(busy))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
