package observe

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/kube"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// Event reasons.
const (
	ReasonTransition = "StateTransition"
	ReasonProblem    = "StateMapProblem"
)

const (
	eventBurst   = 25               // of Events at once; a state that flips must not flood the cluster
	eventPace    = 10 * time.Second // then one of them, or a series
	eventTries   = 3
	eventTimeout = 5 * time.Second
	eventPause   = eventsEnd / eventTries // before another try
	eventsEnd    = lifecycle.CloseEnd     // is what the last ones have at the exit
)

// Events writes Kubernetes Events, as well as it may: one that is refused or
// lost changes nothing (contract, row 56). A nil Events writes none.
type Events struct {
	client    *kube.Client
	log       *slog.Logger
	namespace string
	runner    string
	pod       object // the runner's; nil outside of one
	limit     *rate.Limiter
	ctx       context.Context // of all that is written; ends after Close
	end       context.CancelFunc
	open      context.Context // ends with Close: what is above the limit waits no longer
	closing   context.CancelFunc

	mu   sync.Mutex
	last chan struct{}     // closed when the last one was written
	held map[string]object // those above the limit, each for all of its kind
}

// object is what is written of a Kubernetes object, or of a reference to one.
type object map[string]any

// NewEvents prepares to write Events into a namespace, or none without a client.
func NewEvents(client *kube.Client, log *slog.Logger, namespace, runner, podName, podUID string) *Events {
	if client == nil {
		return nil
	}
	e := &Events{
		client: client, log: log, namespace: namespace, runner: runner,
		limit: rate.NewLimiter(rate.Every(eventPace), eventBurst), last: make(chan struct{}), held: make(map[string]object),
	}
	e.ctx, e.end = context.WithCancel(context.Background())
	e.open, e.closing = context.WithCancel(e.ctx)
	close(e.last)
	if podName != "" {
		e.pod = e.reference("Pod", podName)
		e.pod["uid"] = podUID
	}
	return e
}

func (e *Events) reference(kind, name string) object {
	return object{"apiVersion": "v1", "kind": kind, "namespace": e.namespace, "name": name}
}

// actions are what a runner has done to be in a phase.
var actions = map[api.Phase]string{
	api.PhaseUnknown: "Read", api.PhaseRunning: "Run", api.PhaseDraining: "Drain", api.PhaseSuspended: "Suspend", api.PhaseTerminated: "Terminate",
}

// Transition writes a normal Event about the pod or, outside of one, about a map: the one
// that has decided, if any has.
func (e *Events) Transition(s api.Status, text string) {
	if e == nil {
		return
	}
	about, decided := e.pod, object(nil)
	if m := map[api.Source]*api.MapStatus{api.SourceGlobal: s.Maps.Global, api.SourceNode: s.Maps.Node}[s.Source]; m != nil {
		decided = e.reference("ConfigMap", m.Name)
		decided["resourceVersion"] = m.ResourceVersion
	}
	if about == nil {
		about = e.reference("ConfigMap", api.GlobalMapName)
		if decided != nil {
			about = decided
		}
	}
	e.add(about, decided, "Normal", ReasonTransition, actions[s.Phase], text)
}

// Problem writes a Warning about a map.
func (e *Events) Problem(mapName, text string) {
	if e != nil {
		e.add(e.reference("ConfigMap", mapName), e.pod, "Warning", ReasonProblem, "Read", text)
	}
}

// add writes an Event behind those before it; it never waits. Above the limit one
// stands for all of its kind, as a series.
func (e *Events) add(about, related object, kind, reason, action, text string) {
	const longest, suffix = 253, 20 // of a name, and of its end that tells Events apart
	const longestNote, longestName = 1000, 128
	now := time.Now()
	stamp := now.UTC().Format("2006-01-02T15:04:05.000000Z07:00")
	event := object{
		"apiVersion": "events.k8s.io/v1", "kind": "Event", "eventTime": stamp,
		"metadata": object{"namespace": e.namespace, "name": fmt.Sprintf("%s.%x", strings.TrimRight(fmt.Sprintf("%.*s", longest-suffix, about["name"]), "-."), now.UnixNano())},
		"type":     kind, "reason": reason, "action": action, "regarding": about, "related": related,
		"note":                strings.ToValidUTF8(text[:min(len(text), longestNote)], ""),
		"reportingController": "studioml.io/runner", "reportingInstance": e.runner[:min(len(e.runner), longestName)],
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	alike, late := fmt.Sprint(about["name"], related["name"], reason, action), !e.limit.Allow()
	if first := e.held[alike]; late && first != nil {
		series, _ := first["series"].(object)
		count, _ := series["count"].(int)
		first["series"] = object{"count": max(count, 1) + 1, "lastObservedTime": stamp}
		first["regarding"], first["related"], first["note"] = about, related, event["note"]
		return
	}
	if late {
		e.held[alike] = event
	}
	before, done := e.last, make(chan struct{})
	e.last = done
	go func() {
		defer close(done)
		<-before
		if late {
			_ = e.limit.Wait(e.open)
			e.mu.Lock()
			delete(e.held, alike)
			e.mu.Unlock()
		}
		e.write(event)
	}()
}

func (e *Events) write(event object) {
	for try := range eventTries {
		ctx, cancel := context.WithTimeout(e.ctx, eventTimeout)
		err := e.client.Create(ctx, "/apis/events.k8s.io/v1/namespaces/"+e.namespace+"/events", event)
		cancel()
		if err == nil {
			return
		}
		e.log.Debug("Event not written", "try", try+1, "error", err)
		if code := kube.Code(err); code/100 == 4 && code != 429 {
			return // it will not be taken a second time either
		}
		select {
		case <-time.After(eventPause):
		case <-e.ctx.Done():
			return
		}
	}
}

// Close waits until all is written, for a second at most, also when it is called twice.
func (e *Events) Close() {
	if e == nil {
		return
	}
	e.closing()
	time.AfterFunc(eventsEnd, e.end)
	e.mu.Lock()
	last := e.last
	e.mu.Unlock()
	<-last
}
