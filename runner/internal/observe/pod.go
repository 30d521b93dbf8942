package observe

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/kube"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

const (
	podPace   = time.Second      // between two writes
	podSpread = 5 * time.Second  // of a fleet's, where all runners have the same news at once
	podIdle   = 10 * time.Second // without a task, after which a runner is not busy
	// podWait is how long a task waits until its pod says that the runner is busy.
	podWait = podPace + time.Second
	// podEnd is how long the last write may take.
	podEnd = lifecycle.PartsEnd * 2 / 3
	// podLongest is the longest pause after a write that failed: an API server comes
	// back, and who lacks the right is given it some day.
	podLongest = time.Minute

	// deletionCost tells a ReplicaSet that is scaled down which pods to spare.
	deletionCost = "controller.kubernetes.io/pod-deletion-cost"
)

// Pod writes on the runner's own pod what the board shows: conditions, for kubectl
// wait; labels, for selectors; and the status, for who may read pods and no more. It
// goes by what is so and what it has written last, and what cannot be written changes
// nothing. A nil Pod writes nothing.
type Pod struct {
	write  func(ctx context.Context, patch any) error
	log    *slog.Logger
	uid    string
	wanted chan struct{} // holds a token when a task waits for the pod to be busy

	mu     sync.Mutex
	task   time.Time     // when there last was a task, or one was about to start
	had    bool          // there was one at the last look
	marked bool          // the pod says that it is busy
	failed bool          // the last write did
	told   chan struct{} // closed when the pod says that it is busy, or cannot
}

// NewPod prepares to write on a pod, or on none if it has no name or there is no client.
func NewPod(client *kube.Client, log *slog.Logger, namespace, name, uid string) *Pod {
	if client == nil || name == "" {
		return nil
	}
	path := "/api/v1/namespaces/" + namespace + "/pods/" + name + "/status"
	return &Pod{
		log: log, uid: uid, wanted: make(chan struct{}, 1), told: make(chan struct{}),
		write: func(ctx context.Context, patch any) error {
			return client.Patch(ctx, path, url.Values{"fieldManager": {"studio-go-runner"}}, "application/strategic-merge-patch+json", patch)
		},
	}
}

// Busy is called before a task starts. It returns when the pod says that there is one,
// or when that cannot be had soon.
func (p *Pod) Busy(ctx context.Context) {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.task = time.Now()
	known, told := p.marked || p.failed, p.told
	p.mu.Unlock()
	if known {
		return
	}
	select {
	case p.wanted <- struct{}{}:
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, podWait)
	defer cancel()
	select {
	case <-told:
	case <-ctx.Done():
	}
}

// mark is what the pod shall say. What changes with each task is left out, but for
// what is left of a drain.
type mark struct {
	busy bool
	news api.Status
}

// look says what the pod shall say now, and when to look again at the latest.
func (p *Pod) look(s api.Status, now time.Time) (m mark, wake time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	tasks := s.Tasks.Running+s.Tasks.Waiting > 0
	if tasks || p.had {
		p.task = now
	}
	p.had = tasks
	m, wake = mark{tasks, s}, now.Add(time.Hour)
	if idle := p.task.Add(podIdle); !tasks && now.Before(idle) && !isDrained(s.Phase) {
		m.busy, wake = true, idle
	}
	if !m.busy {
		p.marked = false // a task that starts from now on waits until that is written
	}
	n := &m.news
	n.Sequence, n.Time, n.Heard, n.InFlight = 0, time.Time{}, time.Time{}, nil
	n.Tasks = api.TaskCounts{Running: s.Tasks.Running, Waiting: s.Tasks.Waiting}
	if s.Phase != api.PhaseDraining {
		n.Tasks, n.Reason = api.TaskCounts{}, ""
	}
	n.GPUs = slices.Clone(s.GPUs)
	for i := range n.GPUs {
		n.GPUs[i].Task = ""
	}
	return m, wake
}

// Run writes until ctx ends or the board is closed, and then what is so at the end.
func (p *Pod) Run(ctx context.Context, board *Board) error {
	if p == nil {
		return nil
	}
	var written mark
	since := make(map[string]condition)
	wait := func(limit time.Duration, news, task <-chan struct{}) {
		select {
		case <-time.After(limit):
		case <-news:
		case <-task:
		case <-ctx.Done():
		}
	}
	pause := podPace
	for ctx.Err() == nil && !board.isClosed() {
		page := board.latest()
		want, wake := p.look(page.status, time.Now())
		if reflect.DeepEqual(want, written) {
			wait(time.Until(wake), page.turned, p.wanted)
			continue
		}
		// All of a fleet see that, and who starts will soon know more. A task does not wait for
		// it, and those who were refused are spread already.
		fleet := written.news.PID == 0 || !reflect.DeepEqual(want.news.Maps.Global, written.news.Maps.Global)
		if fleet && (written.busy || !want.busy) && pause == podPace {
			wait(rand.N(podSpread), nil, p.wanted)
			page = board.latest()
			want, _ = p.look(page.status, time.Now())
		}
		if p.put(ctx, page.status, want, since) == nil {
			written, pause = want, podPace
			wait(podPace, nil, nil)
		} else {
			pause = min(2*pause, podLongest)
			wait(pause/2+rand.N(pause/2), nil, nil)
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), podEnd)
	defer cancel()
	last := board.latest().status
	if want, _ := p.look(last, time.Now()); !reflect.DeepEqual(want, written) {
		_ = p.put(ctx, last, want, since) // nobody is left to tell
	}
	return nil
}

// put writes, and notes what came of it.
func (p *Pod) put(ctx context.Context, s api.Status, m mark, since map[string]condition) error {
	err := p.write(ctx, p.patch(s, m.busy, since))
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && !p.failed && ctx.Err() == nil {
		p.log.Info("the pod does not show what the runner does; the right to do so is in runner/deploy/conditions", "reason", err.Error())
	}
	p.failed = err != nil
	if p.marked = p.marked || err == nil && m.busy; err != nil || m.busy {
		close(p.told)
		p.told = make(chan struct{})
	}
	return err
}

// condition is one of a pod's.
type condition struct {
	Type               string    `json:"type"`
	Status             string    `json:"status"`
	Reason             string    `json:"reason"`
	Message            string    `json:"message"`
	LastTransitionTime time.Time `json:"lastTransitionTime"`
}

func (p *Pod) patch(s api.Status, busy bool, since map[string]condition) object {
	reason := cmp.Or(map[api.Source]string{api.SourceSignal: "Signal", api.SourceLimit: "Limit"}[s.Source], string(s.Effective), "MapsNotRead")
	var conditions []condition
	for kind, is := range map[string]bool{api.ConditionDraining: s.Phase == api.PhaseDraining, api.ConditionDrained: isDrained(s.Phase)} {
		c := condition{kind, "False", reason, because(s), s.Since.Truncate(time.Second)}
		if s.Phase == api.PhaseUnknown {
			c.Status = "Unknown"
		} else if is {
			c.Status = "True"
		}
		if before, ok := since[kind]; ok && before.Status == c.Status {
			c.LastTransitionTime = before.LastTransitionTime
		}
		since[kind] = c
		conditions = append(conditions, c)
	}
	s.InFlight = s.InFlight[:min(len(s.InFlight), 1)]
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // it is plain data
	}
	about := object{
		"labels":      object{api.LabelPhase: s.Phase, api.LabelBusy: strconv.FormatBool(busy)},
		"annotations": object{api.AnnotationStatus: string(text), deletionCost: map[bool]string{true: "1", false: "0"}[busy]},
	}
	if p.uid != "" {
		about["uid"] = p.uid // and no other pod of that name
	}
	return object{"metadata": about, "status": object{"conditions": conditions}}
}

func isDrained(phase api.Phase) bool {
	return phase == api.PhaseSuspended || phase == api.PhaseTerminated
}

// because says in a sentence why a runner is in its phase. Its last word has it all.
func because(s api.Status) string {
	if s.Phase == api.PhaseTerminated && s.Reason != "" {
		return s.Reason
	}
	says := ""
	if s.Source == api.SourceGlobal || s.Source == api.SourceNode {
		says = fmt.Sprintf("the %s map says %s", s.Source, s.Effective)
	}
	return strings.Join(slices.DeleteFunc([]string{says, s.Why, s.Reason}, func(part string) bool { return part == "" }), "; ")
}
