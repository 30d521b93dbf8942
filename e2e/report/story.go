package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/runner/api"
)

// Story is what happened in one scenario, as lanes of what was so from when to
// when. Times are milliseconds since its begin.
type Story struct {
	Start   time.Time `json:"start"`
	Length  int64     `json:"length"`
	Version string    `json:"version,omitempty"` // of the runners
	Around  []string  `json:"around,omitempty"`
	Lanes   []*Lane   `json:"lanes"`
	// Wrong is the first step that went wrong, if one did.
	Wrong *Wrong `json:"wrong,omitempty"`
	// Pair is what the two maps and the first runner said at last, for the matrix.
	Pair *Pair `json:"pair,omitempty"`
}

// Lane is one thing that changes.
type Lane struct {
	Name  string `json:"name"`
	Kind  Kind   `json:"kind"`
	Spans []Span `json:"spans"`
}

// Kind says what a lane shows.
type Kind string

// The kinds of lanes, in the order in which they are shown.
const (
	Steps Kind = "step"
	Maps  Kind = "map"
	State Kind = "state"
	Tasks Kind = "tasks"
	GPUs  Kind = "gpu"
)

var kinds = []Kind{Steps, Maps, State, Tasks, GPUs}

// Span is what was so from At until the next span of the lane, or until To.
type Span struct {
	At   int64  `json:"at"`
	To   int64  `json:"to,omitempty"`
	Look string `json:"look,omitempty"` // how it is drawn: a word of page.css
	Text string `json:"text"`
	More string `json:"more,omitempty"`
}

// Wrong is a deviation: what, and when.
type Wrong struct {
	At   int64  `json:"at"`
	Line int    `json:"line,omitempty"`
	Step string `json:"step"`
	Why  string `json:"why"`
}

// Bounds, so that a page of 300 scenarios stays one that a phone opens.
const (
	maxSpans = 120 // of a lane
	maxLanes = 24
	maxText  = 200 // bytes
	maxGPUs  = 8   // lanes of a runner
)

// TellStory folds a record; around is what it stands on, as the version of Kubernetes.
// The same record always gives the same story, and one of nothing none.
func TellStory(entries []history.Entry, around ...string) *Story {
	if len(entries) == 0 {
		return nil
	}
	t := &teller{story: &Story{Start: entries[0].Time, Around: around}, summary: history.NewSummary()}
	for _, e := range entries {
		t.at = e.Time.Sub(t.story.Start).Milliseconds()
		t.summary.Apply(e)
		t.tell(e)
	}
	s := t.story
	s.Length = max(1, t.at)
	s.Pair = pairOf(t.summary, t.first)
	slices.SortStableFunc(s.Lanes, func(a, b *Lane) int { return cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)) })
	s.Lanes = s.Lanes[:min(len(s.Lanes), maxLanes)]
	for _, lane := range s.Lanes {
		lane.shorten()
	}
	return s
}

// String is short: in Ginkgo's reports, the story itself stands beside it.
func (s *Story) String() string { return fmt.Sprintf("%d lanes", len(s.Lanes)) }

// teller is a story while it is put together.
type teller struct {
	story   *Story
	summary *history.Summary
	at      int64  // the moment of the present entry
	first   string // the runner that was started first
}

// lane returns a lane, which is made when it is first asked for.
func (t *teller) lane(kind Kind, name string) *Lane {
	for _, lane := range t.story.Lanes {
		if lane.Kind == kind && lane.Name == name {
			return lane
		}
	}
	lane := &Lane{Name: name, Kind: kind, Spans: []Span{}}
	t.story.Lanes = append(t.story.Lanes, lane)
	return lane
}

// put adds a span that begins now, if it says something else than the one before.
func (t *teller) put(kind Kind, name string, s Span) {
	lane := t.lane(kind, name)
	s.At, s.Text, s.More = t.at, brief(s.Text), brief(s.More)
	if n := len(lane.Spans); n > 0 {
		last := lane.Spans[n-1]
		if last.At = t.at; last == s {
			return
		}
	}
	lane.Spans = append(lane.Spans, s)
}

func (t *teller) tell(e history.Entry) {
	switch {
	case e.Step != nil:
		t.step(e.Step)
	case e.Map != nil:
		t.put(Maps, "map "+e.Map.Name, ofMap(e.Map))
	case e.Start:
		t.first = cmp.Or(t.first, e.Runner)
		t.put(State, "runner "+e.Runner, Span{Look: "unknown", Text: "started", More: fmt.Sprintf("process %d", e.Process)})
	case e.Status != nil:
		t.status(e)
	case e.Exit != nil:
		t.put(State, "runner "+e.Runner, Span{Look: "gone", Text: fmt.Sprintf("exit %d", e.Exit.Code), More: e.Exit.Message})
	case e.Note != nil:
		r := t.summary.Runner(e.Note.Runner)
		t.put(Tasks, "tasks of "+e.Note.Runner, tasks(r.Started-r.Finished, r.Finished))
	}
}

// step is a span of its own, with its end; the first that fails is what is wrong.
func (t *teller) step(s *history.Step) {
	lane := t.lane(Steps, "steps")
	if !s.Ended {
		span := Span{At: t.at, Text: plain(s.Text)}
		if s.Line > 0 {
			span.More = fmt.Sprintf("line %d", s.Line)
		}
		lane.Spans = append(lane.Spans, span)
		return
	}
	if n := len(lane.Spans); n > 0 {
		lane.Spans[n-1].To = max(t.at, lane.Spans[n-1].At+1)
		if s.Error != "" {
			lane.Spans[n-1].Look = "wrong"
		}
	}
	if s.Error != "" && t.story.Wrong == nil {
		t.story.Wrong = &Wrong{At: t.at, Line: s.Line, Step: plain(s.Text), Why: s.Error[:min(len(s.Error), 2000)]}
	}
}

// plain is a step as people write it, and not as JSON.
func plain(step string) string {
	if text, ok := strings.CutPrefix(step, "{"); ok {
		step = strings.NewReplacer(`":`, ": ", `"`, "", ",", ", ").Replace(strings.TrimSuffix(text, "}"))
	}
	return brief(step)
}

func ofMap(m *history.Map) Span {
	value, there := m.Data[api.StateKey]
	state := strings.TrimSpace(value)
	s := Span{Look: "absent", More: "version " + m.ResourceVersion}
	switch {
	case m.Deleted:
		s.Text = "deleted"
	case !there:
		s.Text = "no STATE"
	case state == "":
		s.Text = "empty"
	default:
		s.Look, s.Text = lookOf(state), state
	}
	return s
}

var looks = map[string]string{
	string(api.Running):           "running",
	string(api.DrainAndSuspend):   "suspended",
	string(api.PhaseSuspended):    "suspended",
	string(api.DrainAndTerminate): "terminated",
	string(api.PhaseTerminated):   "terminated",
	string(api.PhaseDraining):     "draining",
	string(api.PhaseUnknown):      "unknown",
}

// lookOf is how a phase or a state is drawn.
func lookOf(word string) string { return cmp.Or(looks[word], "invalid") }

// status fills the lanes of a runner: its phase, its tasks, its GPUs.
func (t *teller) status(e history.Entry) {
	s := e.Status
	if e.Process != t.summary.Runner(e.Runner).Processes {
		return // a late word of a process that was replaced
	}
	t.story.Version = cmp.Or(t.story.Version, s.Version)
	span := Span{Look: lookOf(string(s.Phase)), Text: string(s.Phase)}
	if s.Target != "" {
		span.Text += " to " + string(s.Target)
	}
	if s.Effective != "" {
		span.More = fmt.Sprintf("effective %s, source %s", s.Effective, s.Source)
	}
	if s.Shadowed != nil {
		span.More += ", shadowed " + string(s.Shadowed.Value)
	}
	t.put(State, "runner "+e.Runner, span)
	t.put(Tasks, "tasks of "+e.Runner, tasks(s.Tasks.Running, t.summary.Runner(e.Runner).Finished))
	for i, g := range s.GPUs {
		if i < maxGPUs {
			t.put(GPUs, fmt.Sprintf("GPU %d of %s", g.Index, e.Runner), ofGPU(g))
		}
	}
}

func tasks(running, finished int) Span {
	look := "idle"
	if running > 0 {
		look = "busy"
	}
	return Span{Look: look, Text: fmt.Sprint(running), More: fmt.Sprintf("%d finished", finished)}
}

func ofGPU(g api.GPU) Span {
	switch {
	case g.Health != api.Healthy:
		return Span{Look: "wrong", Text: strings.TrimSpace(string(g.Health) + " " + g.Task), More: g.HealthReason}
	case g.Task != "":
		return Span{Look: "busy", Text: g.Task, More: g.UUID}
	}
	return Span{Look: "idle", Text: "free", More: g.UUID}
}

// shorten keeps the beginning and the end of what changed too often to be seen.
func (l *Lane) shorten() {
	if left := len(l.Spans) - maxSpans; left > 0 {
		gap := l.Spans[maxSpans/2]
		gap.To, gap.Look, gap.Text, gap.More = 0, "many", fmt.Sprintf("%d more changes", left), "see the record"
		l.Spans = slices.Concat(l.Spans[:maxSpans/2], []Span{gap}, l.Spans[len(l.Spans)-maxSpans/2:])
	}
}

// brief keeps a text to a line of bounded length.
func brief(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
