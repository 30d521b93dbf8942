package observe

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
)

// Metrics counts what the status document does not.
type Metrics struct {
	Registry    *prometheus.Registry
	transitions *prometheus.CounterVec
	problems    *prometheus.CounterVec
}

const prefix = "studioml_runner_"

// NewMetrics returns a registry with the metrics of the process, of the board's
// status and the counters of Metrics.
func NewMetrics(board *Board) *Metrics {
	m := &Metrics{
		Registry: prometheus.NewRegistry(),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "transitions_total", Help: "Changes of the runner's phase.",
		}, []string{"from", "to"}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "map_problems_total",
			Help: "How often a ConfigMap began to be invalid, misplaced in binaryData, or unreadable.",
		}, []string{"map", "kind"}),
	}
	m.Registry.MustRegister(m.transitions, m.problems, status(board),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Dropped shows how many lines the log has lost.
func (m *Metrics) Dropped(count func() float64) {
	m.Registry.MustRegister(collector{prefix, func(send send) {
		send("log_lines_dropped_total", "Log lines that were dropped because nobody took them.", count())
	}})
}

// Queue shows how it stands with the server of the queue.
func (m *Metrics) Queue(failures, lost, late *atomic.Int64) {
	m.Registry.MustRegister(collector{prefix, func(send send) {
		send("queue_failures_total", "Statements that the queue's server refused or did not answer.", float64(failures.Load()))
		send("claims_lost_total", "Tasks that became another runner's while this one had them.", float64(lost.Load()))
		send("ends_untold", "Ends of tasks that the queue's server has not taken yet.", float64(late.Load()))
	}})
}

// Queued shows how many tasks the queue has in some states. What it returns counts them,
// until ctx ends: not while somebody scrapes, who must not wait for a server, but right
// after, for the next time.
func (m *Metrics) Queued(count func(context.Context) (map[api.TaskState]int, error)) func(context.Context) error {
	// All runners of a fleet ask, so that each has a thousandth of a processor for it.
	const often, seldom, part = 10 * time.Second, 5 * time.Minute, 1000
	var newest atomic.Pointer[map[api.TaskState]int] // nothing while it is not known
	scraped := make(chan struct{}, 1)
	m.Registry.MustRegister(collector{prefix, func(send send) {
		select {
		case scraped <- struct{}{}:
		default: // it is known already
		}
		if tasks := newest.Load(); tasks != nil {
			for state, n := range *tasks {
				send("queue_tasks", "Tasks of the queue, those of other runners as well.", float64(n), "state", string(state))
			}
		}
	}})
	return func(ctx context.Context) error {
		for {
			select {
			case <-scraped:
			case <-ctx.Done():
				return nil
			}
			began := time.Now()
			tasks, err := count(ctx)
			if err != nil {
				tasks = nil
			}
			newest.Store(&tasks)
			select {
			case <-time.After(min(max(often, part*time.Since(began)), seldom)):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// Transition counts a change of the phase, if it is one.
func (m *Metrics) Transition(from, to api.Phase) {
	if from != to {
		m.transitions.WithLabelValues(string(from), string(to)).Inc()
	}
}

// Problem counts that the global or the node map began to have a problem.
func (m *Metrics) Problem(scope, kind string) {
	m.problems.WithLabelValues(scope, kind).Inc()
}

// status is read when it is scraped, so that metrics and /statusz cannot disagree.
func status(board *Board) prometheus.Collector {
	return collector{prefix, func(send send) {
		s := board.Latest()
		which(send, "phase", "1 for the phase that the runner is in, 0 for the others.", "phase", s.Phase,
			[]api.Phase{api.PhaseUnknown, api.PhaseRunning, api.PhaseDraining, api.PhaseSuspended, api.PhaseTerminated})
		send("phase_since_timestamp_seconds", "When the runner entered its phase, as Unix time.", float64(s.Since.UnixMilli())/1000)
		if !s.Heard.IsZero() {
			send("apiserver_heard_timestamp_seconds", "When the last byte came from the API server, as Unix time.", float64(s.Heard.UnixMilli())/1000)
		}
		which(send, "effective_state", "1 for the state that the maps ask for, 0 for the others.", "state", s.Effective, api.States)
		for label, m := range map[string]*api.MapStatus{"global": s.Maps.Global, "node": s.Maps.Node} {
			if m == nil {
				continue
			}
			send("map_readable", "Whether a ConfigMap can be read.", truth(m.Readable), "map", label)
			send("map_problem", "Whether something is wrong with a ConfigMap.", truth(m.Problem != ""), "map", label)
			if v, err := strconv.ParseFloat(m.ResourceVersion, 64); err == nil {
				send("map_resource_version", "The newest resourceVersion seen of a ConfigMap.", v, "map", label)
			}
		}
		for stage, n := range map[string]int{"running": s.Tasks.Running, "waiting": s.Tasks.Waiting} {
			send("tasks_held", "Tasks that this runner holds.", float64(n), "stage", stage)
		}
		send("attempts_started_total", "Attempts begun.", float64(s.Tasks.Started))
		for ending, n := range map[string]int{
			"succeeded": s.Tasks.Succeeded, "failed": s.Tasks.Failed, "machine_failed": s.Tasks.MachineFailed,
			"cancelled": s.Tasks.Cancelled, "requeued": s.Tasks.Requeued,
		} {
			send("tasks_total", "Tasks that left this runner.", float64(n), "ending", ending)
		}
		busy := 0.0
		for _, g := range s.GPUs {
			busy += truth(g.Task != "")
			which(send, "gpu_health", "1 for the health that a GPU or MIG device has, 0 for the others.", "health", g.Health,
				[]api.Health{api.Healthy, api.Retiring, api.Sick}, "gpu", strconv.Itoa(g.Index), "UUID", g.UUID, "modelName", g.Model)
		}
		send("gpus", "GPUs that tasks can have.", float64(len(s.GPUs)))
		send("gpus_busy", "GPUs that tasks hold.", busy)
	}}
}

// GPULoad exports what the monitor has read, under the names, units and labels
// of NVIDIA's dcgm-exporter, so that dashboards for that work here too. Of a GPU
// that does not answer there is the Xid, which may tell why.
func GPULoad(read func() []gpu.Reading) prometheus.Collector {
	return collector{"DCGM_FI_DEV_", func(send send) {
		for _, r := range read() {
			for _, v := range r.Values {
				send(v.Name, v.Help, v.Value, "gpu", strconv.Itoa(r.Index), "UUID", r.UUID, "modelName", r.Model)
			}
		}
	}}
}

// collector makes metrics when it is scraped. Which there are depends on what is so
// then, so that it describes none before.
type collector struct {
	prefix  string // of all names
	collect func(send)
}

// send sends a metric: a counter if its name says so, else a gauge. The labels are
// names, each with its value behind it.
type send func(name, help string, v float64, labels ...string)

// Describe implements prometheus.Collector.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	c.collect(func(name, help string, v float64, labels ...string) {
		kind, pairs := prometheus.GaugeValue, make(prometheus.Labels)
		if strings.HasSuffix(name, "_total") {
			kind = prometheus.CounterValue
		}
		for pair := range slices.Chunk(labels, 2) {
			pairs[pair[0]] = pair[1]
		}
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(c.prefix+name, help, nil, pairs), kind, v)
	})
}

// which sends 1 for the one of the values of a label that is so, and 0 for the others.
func which[T ~string](to send, name, help, label string, is T, all []T, labels ...string) {
	for _, v := range all {
		to(name, help, truth(v == is), append(labels, label, string(v))...)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
