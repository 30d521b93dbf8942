package observe

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/kube"
)

// Event reasons.
const (
	ReasonTransition = "StateTransition"
	ReasonProblem    = "StateMapProblem"
)

const (
	eventBurst   = 25               // of Events at once; a state that flips must not flood the cluster
	eventPace    = 10 * time.Second // then one of them
	eventTries   = 3
	eventTimeout = 5 * time.Second
	eventPause   = eventsEnd / eventTries // before another try
	// eventsEnd is how long the last ones have at the exit; it is a part of
	// lifecycle.EndAfter.
	eventsEnd = time.Second
)

// Events writes Kubernetes Events, as well as it may: one that is refused or
// lost changes nothing (contract, row 56). A nil Events writes none.
type Events struct {
	client    *kube.Client
	log       *slog.Logger
	namespace string
	runner    string
	pod       object // what transitions are about
	limit     *rate.Limiter
	ctx       context.Context // of all that is written; ends after Close
	end       context.CancelFunc

	mu   sync.Mutex
	last chan struct{} // closed when the last one was written
}

// object is what is written of a Kubernetes object, or of a reference to one.
type object map[string]any

// NewEvents prepares to write Events into a namespace. Transitions are about the
// pod if its name is known, else about the global map.
func NewEvents(client *kube.Client, log *slog.Logger, namespace, runner, podName, podUID string) *Events {
	e := &Events{
		client: client, log: log, namespace: namespace, runner: runner,
		limit: rate.NewLimiter(rate.Every(eventPace), eventBurst), last: make(chan struct{}),
	}
	e.ctx, e.end = context.WithCancel(context.Background())
	close(e.last)
	e.pod = e.reference("ConfigMap", api.GlobalMapName)
	if podName != "" {
		e.pod = e.reference("Pod", podName)
		e.pod["uid"] = podUID
	}
	return e
}

func (e *Events) reference(kind, name string) object {
	return object{"apiVersion": "v1", "kind": kind, "namespace": e.namespace, "name": name}
}

// Transition writes a normal Event.
func (e *Events) Transition(text string) {
	if e != nil {
		e.add(e.pod, "Normal", ReasonTransition, text)
	}
}

// Problem writes a Warning about a map.
func (e *Events) Problem(mapName, text string) {
	if e != nil {
		e.add(e.reference("ConfigMap", mapName), "Warning", ReasonProblem, text)
	}
}

// add writes an Event behind those before it; it never waits.
func (e *Events) add(about object, kind, reason, text string) {
	const longest, suffix = 253, 20 // of a name, and of its end that tells Events apart
	now := time.Now()
	stamp := now.UTC().Format(time.RFC3339)
	event := object{
		"apiVersion": "v1", "kind": "Event", "involvedObject": about, "type": kind, "reason": reason, "message": fmt.Sprintf("%.1000s", text),
		"metadata":       object{"namespace": e.namespace, "name": fmt.Sprintf("%.*s.%x", longest-suffix, about["name"], now.UnixNano())},
		"source":         object{"component": "studio-go-runner", "host": e.runner},
		"firstTimestamp": stamp, "lastTimestamp": stamp, "count": 1,
		"reportingComponent": "studio-go-runner", "reportingInstance": e.runner,
	}
	if !e.limit.Allow() {
		e.log.Debug("too many Events, one is not written", "reason", reason, "text", text)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	before, done := e.last, make(chan struct{})
	e.last = done
	go func() {
		defer close(done)
		<-before
		e.write(event)
	}()
}

func (e *Events) write(event object) {
	for try := range eventTries {
		ctx, cancel := context.WithTimeout(e.ctx, eventTimeout)
		err := e.client.Create(ctx, "/api/v1/namespaces/"+e.namespace+"/events", event)
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

// Close waits until all is written, for a second at most.
func (e *Events) Close() {
	if e == nil {
		return
	}
	time.AfterFunc(eventsEnd, e.end)
	e.mu.Lock()
	last := e.last
	e.mu.Unlock()
	<-last
}
