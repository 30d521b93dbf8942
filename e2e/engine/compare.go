package engine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// verdict is how the facts compare with conditions.
type verdict struct {
	wrong []string // what is not as wanted, a sentence each
	// hopeless says why waiting cannot help, if it cannot.
	hopeless string
}

func (v verdict) ok() bool { return len(v.wrong) == 0 }

// judge compares the facts with the conditions.
func (p *play) judge(f *history.Facts, that map[string]scenario.Condition, seen observed) verdict {
	var all verdict
	for _, subject := range slices.Sorted(maps.Keys(that)) {
		c := &comparison{}
		if group, ok := taskGroup(subject); ok {
			c.tasks(f, that[subject], group, seen.queue)
		} else {
			p.compareRunner(c, subject, f, that[subject], seen)
		}
		for _, wrong := range c.wrong {
			if len(that) > 1 {
				wrong = subject + ": " + wrong
			}
			all.wrong = append(all.wrong, wrong)
		}
		if c.hopeless != "" {
			all.hopeless = cmp.Or(all.hopeless, subject+": "+c.hopeless)
		}
	}
	all.wrong = append(all.wrong, seen.silent...)
	return all
}

// comparison collects what is not as wanted of one subject.
type comparison struct {
	verdict
	// ended says that the subject will not change any more, empty if it may.
	ended string
}

// mismatch notes what is not as wanted, of something that changes as long as
// its subject lives.
func (c *comparison) mismatch(format string, args ...any) {
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
	c.hopeless = cmp.Or(c.hopeless, c.ended)
}

func (c *comparison) text(field, have, want string) {
	if want != "" && have != want {
		c.mismatch("%s is %s, want %s", field, orNone(have), want)
	}
}

func (c *comparison) contains(field, have, want string) {
	if want != "" && !strings.Contains(have, want) {
		c.mismatch("%s does not say %q: %s", field, want, orNone(have))
	}
}

func compare[T comparable](c *comparison, field string, have T, want *T) {
	if want != nil && have != *want {
		c.mismatch("%s is %v, want %v", field, have, *want)
	}
}

// total compares a count that only grows, and that others than the subject may
// still report after its end.
func (c *comparison) total(field string, have int, want *int) {
	if want == nil || have == *want {
		return
	}
	c.wrong = append(c.wrong, fmt.Sprintf("%s is %d, want %d", field, have, *want))
	if have > *want {
		c.hopeless = cmp.Or(c.hopeless, field+" never gets smaller")
	}
}

func orNone(text string) string { return cmp.Or(text, scenario.None) }

func (c *comparison) tasks(f *history.Facts, want scenario.Condition, group string, queue *api.QueueContents) {
	started, finished := f.Counts(group)
	c.total("started", started, want.Started)
	c.total("finished", finished, want.Finished)
	if queue == nil {
		return
	}
	in := inQueue(queue, group)
	compare(c, "left", in.ready+in.claimed, want.Left)
	compare(c, "queued", in.ready, want.Queued)
	compare(c, "dead", in.dead, want.Dead)
}

type places struct{ ready, claimed, dead int }

// inQueue counts the tasks of a group.
func inQueue(queue *api.QueueContents, group string) (in places) {
	count := func(tasks []api.QueuedTask) (n int) {
		for _, t := range tasks {
			if history.InGroup(t.ID, group) {
				n++
			}
		}
		return n
	}
	in.ready, in.claimed = count(queue.Ready), count(queue.Claimed)
	for _, d := range queue.Dead {
		if d.Task != nil && history.InGroup(d.Task.ID, group) {
			in.dead++
		}
	}
	return in
}

func (p *play) compareRunner(c *comparison, subject string, f *history.Facts, want scenario.Condition, seen observed) {
	r := f.Runner(subject)
	if r.Exit != nil {
		c.ended = fmt.Sprintf("it has exited with %d (%s), so this will not come any more", r.Exit.Code, cmp.Or(r.Exit.Message, "no message"))
	}
	if want.Processes != nil && r.Processes != *want.Processes {
		c.mismatch("processes is %d, want %d", r.Processes, *want.Processes)
		c.hopeless = cmp.Or(c.hopeless, "only steps start processes")
	}
	c.total("started", r.Started, want.Started)
	c.total("finished", r.Finished, want.Finished)
	if want.Log != "" && !r.Logged(want.Log) {
		c.mismatch("no log line says %q", want.Log)
	}
	switch {
	case want.Exit == nil:
	case r.Exit == nil:
		c.mismatch("it has not exited, want exit code %d", *want.Exit)
	default:
		compare(c, "exit code", r.Exit.Code, want.Exit)
	}
	for _, probe := range probesOf(want) {
		if answer, ok := seen.probes[subject+probe.path]; ok {
			compare(c, probe.path+" succeeds", answer, probe.want)
		}
	}
	switch {
	case !needsStatus(want):
	case r.Status == nil:
		c.mismatch("it has not reported anything yet")
	default:
		c.status(r, want)
		p.compareSeen(c, subject, f, r.Status, want.Seen)
	}
}

// status compares what a runner says itself.
func (c *comparison) status(r *history.Runner, want scenario.Condition) {
	s := r.Status
	c.text("phase", string(s.Phase), want.Phase)
	c.text("effective", orNone(string(s.Effective)), want.Effective)
	c.text("target", string(s.Target), want.Target)
	c.text("source", string(s.Source), want.Source)
	shadowed := scenario.None
	if s.Shadowed != nil {
		shadowed = string(s.Shadowed.Value)
	}
	c.text("shadowed", shadowed, want.Shadowed)
	compare(c, "running", s.Tasks.Running, want.Running)
	compare(c, "waiting", s.Tasks.Waiting, want.Waiting)
	compare(c, "gpus", len(s.GPUs), want.GPUs)
	busy := 0
	for _, g := range s.GPUs {
		if g.Task != "" {
			busy++
		}
	}
	compare(c, "gpusBusy", busy, want.GPUsBusy)
	sick, retiring, reasons := 0, 0, []string{s.GPUProblem}
	for _, g := range s.GPUs {
		switch g.Health {
		case api.Sick:
			sick++
		case api.Retiring:
			retiring++
		}
		reasons = append(reasons, g.HealthReason)
	}
	compare(c, "gpusSick", sick, want.GPUsSick)
	compare(c, "gpusRetiring", retiring, want.GPUsRetiring)
	c.contains("gpuReason", strings.Join(reasons, "; "), want.GPUReason)
	compare(c, "machineFailed", s.Tasks.MachineFailed, want.MachineFailed)
	compare(c, "transitions", r.Transitions, want.Transitions)
	c.contains("reason", s.Reason, want.Reason)
	var problems []string
	for _, m := range []*api.MapStatus{s.Maps.Global, s.Maps.Node} {
		if m != nil && m.Problem != "" {
			problems = append(problems, m.Problem)
		}
	}
	c.contains("problem", strings.Join(problems, "; "), want.Problem)
}

// needsStatus says whether a condition looks at a runner's status.
func needsStatus(c scenario.Condition) bool {
	return c.Phase != "" || c.Effective != "" || c.Target != "" || c.Source != "" || c.Shadowed != "" || c.Running != nil ||
		c.Waiting != nil || c.GPUs != nil || c.GPUsBusy != nil ||
		c.GPUsSick != nil || c.GPUsRetiring != nil || c.GPUReason != "" || c.MachineFailed != nil || c.Problem != "" || c.Reason != "" || c.Seen != nil || c.Transitions != nil
}

// compareSeen compares the versions of the maps that the runner has seen with
// those that the harness's own watch has.
func (p *play) compareSeen(c *comparison, subject string, f *history.Facts, s *api.Status, want *bool) {
	if want == nil {
		return
	}
	unseen := p.unseen(subject, f, s)
	switch {
	case *want && unseen != "":
		c.mismatch("it has not seen the newest maps: %s", unseen)
	case !*want && unseen == "":
		c.mismatch("it has seen the newest maps, want that it has not")
	}
}

// unseen names a map of which the runner has not seen the newest version that
// the harness has, empty if there is none.
func (p *play) unseen(subject string, f *history.Facts, s *api.Status) string {
	node := ""
	if r := p.runners[subject]; r != nil {
		node = r.NodeMap()
	}
	for _, m := range []struct {
		name  string
		known *api.MapStatus
	}{{api.GlobalMapName, s.Maps.Global}, {node, s.Maps.Node}} {
		newest, ok := f.Maps[p.env.Namespace()+"/"+m.name]
		if !ok {
			continue // there never was one
		}
		version := ""
		if m.known != nil {
			version = m.known.ResourceVersion
		}
		if older(version, newest.ResourceVersion) || newest.Missed && version == newest.ResourceVersion {
			return fmt.Sprintf("%s is at version %s, the runner saw %s", m.name, newest.ResourceVersion, orNone(version))
		}
	}
	return ""
}

// older compares resource versions of one kind, which are numbers that grow
// (KEP-5504). No version is older than any.
func older(a, b string) bool {
	x, errA := strconv.ParseUint(a, 10, 64)
	y, errB := strconv.ParseUint(b, 10, 64)
	return errB == nil && (errA != nil || x < y)
}
