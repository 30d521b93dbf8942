package observe

import (
	"context"
	"fmt"
	"log/slog"
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
	pod       reference // what transitions are about
	limit     *rate.Limiter
	queue     chan event
	closing   chan struct{} // closed by Close
	done      chan struct{} // closed when the last one was written
	cancel    context.CancelFunc
}

// event is what a runner tells in an Event of core/v1.
type event struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	About    reference         `json:"involvedObject"`
	Type     string            `json:"type"`
	Reason   string            `json:"reason"`
	Message  string            `json:"message"`
	Source   map[string]string `json:"source"`
	First    string            `json:"firstTimestamp"`
	Last     string            `json:"lastTimestamp"`
	Count    int               `json:"count"`
	Reporter string            `json:"reportingComponent"`
	Instance string            `json:"reportingInstance"`
}

// reference names an object of the runner's namespace.
type reference struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	UID        string `json:"uid,omitempty"`
}

// NewEvents starts to write Events into a namespace. Transitions are about the
// pod if its name is known, else about the global map.
func NewEvents(client *kube.Client, log *slog.Logger, namespace, runner, podName, podUID string) *Events {
	ctx, cancel := context.WithCancel(context.Background())
	e := &Events{
		client: client, log: log, namespace: namespace, runner: runner,
		limit: rate.NewLimiter(rate.Every(eventPace), eventBurst), queue: make(chan event, eventBurst),
		closing: make(chan struct{}), done: make(chan struct{}), cancel: cancel,
	}
	e.pod = e.configMap(api.GlobalMapName)
	if podName != "" {
		e.pod = reference{"v1", "Pod", namespace, podName, podUID}
	}
	go e.run(ctx)
	return e
}

func (e *Events) configMap(name string) reference {
	return reference{APIVersion: "v1", Kind: "ConfigMap", Namespace: e.namespace, Name: name}
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
		e.add(e.configMap(mapName), "Warning", ReasonProblem, text)
	}
}

// add queues an Event; it never waits.
func (e *Events) add(about reference, kind, reason, text string) {
	const longest, suffix = 253, 20 // of a name, and of its end that tells Events apart
	now := time.Now()
	stamp := now.UTC().Format(time.RFC3339)
	v := event{
		APIVersion: "v1", Kind: "Event", About: about, Type: kind, Reason: reason, Message: fmt.Sprintf("%.1000s", text),
		Source: map[string]string{"component": "studio-go-runner", "host": e.runner}, First: stamp, Last: stamp, Count: 1,
		Reporter: "studio-go-runner", Instance: e.runner,
	}
	v.Metadata.Name, v.Metadata.Namespace = fmt.Sprintf("%.*s.%x", longest-suffix, about.Name, now.UnixNano()), e.namespace
	if !e.limit.Allow() {
		e.log.Debug("too many Events, one is not written", "reason", reason, "text", text)
		return
	}
	select {
	case e.queue <- v:
	default:
		e.log.Debug("the API server is too slow for Events, one is not written", "reason", reason, "text", text)
	}
}

// run writes what is queued until Close, and then what is left.
func (e *Events) run(ctx context.Context) {
	defer close(e.done)
	for {
		select {
		case v := <-e.queue:
			e.write(ctx, v)
		case <-e.closing:
			for len(e.queue) > 0 {
				e.write(ctx, <-e.queue)
			}
			return
		}
	}
}

func (e *Events) write(ctx context.Context, v event) {
	for try := range eventTries {
		limited, cancel := context.WithTimeout(ctx, eventTimeout)
		err := e.client.Create(limited, "/api/v1/namespaces/"+e.namespace+"/events", v)
		cancel()
		if err == nil {
			return
		}
		e.log.Debug("Event not written", "try", try+1, "error", err)
		if code := kube.Code(err); code/100 == 4 && code != 429 {
			return // it will not be taken a second time either
		}
		select {
		case <-time.After(time.Second):
		case <-e.closing:
		case <-ctx.Done():
			return
		}
	}
}

// Close writes what is queued, for a second at most, and ends.
func (e *Events) Close() {
	if e == nil {
		return
	}
	close(e.closing)
	select {
	case <-e.done:
	case <-time.After(eventsEnd):
	}
	e.cancel()
	<-e.done
}
