package observe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/kube"
)

// wrote is what a pod was told, and when.
type wrote struct {
	at       time.Time
	Metadata struct {
		UID                 string
		Labels, Annotations map[string]string
	}
	Status struct{ Conditions []condition }
}

func (w wrote) is(kind string) condition {
	for _, c := range w.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return condition{}
}

// podOf runs a test with a pod that answers each write after 10 ms, and for as long as
// refuse says with an error.
func podOf(t *testing.T, refuse func() error, test func(t *testing.T, p *Pod, b *Board, all func() []wrote, end func())) (log string) {
	var text bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var all []wrote
		ending := false
		p := NewPod(new(kube.Client), slog.New(slog.NewTextHandler(&text, nil)), "lab", "pod-1", "42")
		p.write = func(ctx context.Context, patch any) error {
			w := wrote{at: time.Now()}
			if content, err := json.Marshal(patch); err != nil || json.Unmarshal(content, &w) != nil {
				t.Errorf("%s, %v", content, err)
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
			if refuse != nil {
				if err := refuse(); err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if n := len(all); n > 0 && w.at.Sub(all[n-1].at) < time.Second && !ending {
				t.Errorf("a write %s after the one before", w.at.Sub(all[n-1].at))
			}
			all = append(all, w)
			return nil
		}
		b := NewBoard(api.Status{Runner: "a", PID: 1, Phase: api.PhaseUnknown})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := p.Run(ctx, b); err != nil {
				t.Error(err)
			}
		}()
		end := func() {
			mu.Lock()
			ending = true
			mu.Unlock()
			cancel()
			b.Close()
			<-ended
		}
		test(t, p, b, func() []wrote {
			time.Sleep(20 * time.Millisecond) // for an answer
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(all)
		}, end)
		end()
	})
	return text.String()
}

func in(phase api.Phase, version string) api.Status {
	s := api.Status{
		Runner: "a", PID: 1, Phase: phase, Source: api.SourceGlobal, Effective: api.Running,
		Maps: api.Maps{Global: &api.MapStatus{Name: api.GlobalMapName, ResourceVersion: version}},
	}
	if phase != api.PhaseRunning {
		s.Effective = api.DrainAndSuspend
	}
	return s
}

// A thousand tasks one after the other cost as many writes as one, and the pod is busy
// before the first of them begins, and for 10 s after the last.
func TestThePodOfAThousandTasks(t *testing.T) {
	podOf(t, nil, func(t *testing.T, p *Pod, b *Board, all func() []wrote, _ func()) {
		b.Publish(in(api.PhaseRunning, "1"))
		time.Sleep(time.Minute)
		if got := all(); len(got) != 1 || got[0].Metadata.Labels[api.LabelBusy] != "false" || got[0].Metadata.Annotations[deletionCost] != "0" {
			t.Fatalf("at the start: %+v", got)
		}
		s := in(api.PhaseRunning, "1")
		for i := range 1000 {
			p.Busy(t.Context())
			if got := all(); len(got) < 2 || got[len(got)-1].Metadata.Labels[api.LabelBusy] != "true" || got[len(got)-1].Metadata.Annotations[deletionCost] != "1" {
				t.Fatalf("task %d starts, and the pod has %+v", i, got[len(got)-1])
			}
			s.Tasks.Running, s.Tasks.Started = 1, i+1
			s.GPUs = []api.GPU{{UUID: "GPU-1", Task: fmt.Sprint(i)}}
			s.InFlight = []api.InFlight{{ID: fmt.Sprint(i)}, {ID: "another"}}
			b.Publish(s)
			time.Sleep(time.Duration(i) * time.Millisecond * 30) // half of them longer than 10 s
			s.Tasks.Running, s.InFlight = 0, nil
			b.Publish(s)
			time.Sleep(time.Second)
		}
		ended := time.Now().Add(-time.Second)
		time.Sleep(time.Minute)
		got := all()
		if len(got) > 4 {
			t.Errorf("%d writes, want 4 at most", len(got))
		}
		last := got[len(got)-1]
		if idle := last.at.Sub(ended); last.Metadata.Labels[api.LabelBusy] != "false" || idle != podIdle {
			t.Errorf("%s after the last task the pod has %+v", idle, last)
		}
		p.Busy(t.Context())
		if got := all(); got[len(got)-1].Metadata.Labels[api.LabelBusy] != "true" {
			t.Error("a task starts after a pause, and the pod is not busy")
		}
	})
}

// What a fleet sees at the same time, it does not write at the same time; what concerns
// one runner is written at once.
func TestThePodsOfAFleet(t *testing.T) {
	var first, last time.Duration = podSpread, 0
	for range 30 {
		podOf(t, nil, func(t *testing.T, _ *Pod, b *Board, all func() []wrote, _ func()) {
			b.Publish(in(api.PhaseRunning, "1"))
			time.Sleep(time.Minute)
			begin := time.Now()
			b.Publish(in(api.PhaseSuspended, "2"))
			time.Sleep(time.Minute)
			got := all()
			after := got[len(got)-1].at.Sub(begin)
			first, last = min(first, after), max(last, after)
			own := in(api.PhaseRunning, "2")
			own.Maps.Node = &api.MapStatus{Name: "a", ResourceVersion: "3"}
			begin = time.Now()
			b.Publish(own)
			if got := all(); !got[len(got)-1].at.Equal(begin) {
				t.Error("what concerns one runner has waited")
			}
		})
	}
	if first > 2*time.Second || last < 3*time.Second || last > podSpread {
		t.Errorf("a fleet writes from %s to %s", first, last)
	}
}

// While a pod waits for its turn in a fleet, a task does not wait for it, and what is written
// in the end is what is so then.
func TestThePodWhoseTurnIsYetToCome(t *testing.T) {
	podOf(t, nil, func(t *testing.T, p *Pod, b *Board, all func() []wrote, _ func()) {
		b.Publish(in(api.PhaseRunning, "1"))
		time.Sleep(time.Millisecond)
		begin := time.Now()
		p.Busy(t.Context())
		if took := time.Since(begin); took > 10*time.Millisecond {
			t.Errorf("a task has waited for %s", took)
		}
		time.Sleep(time.Minute)
		before := len(all())
		b.Publish(in(api.PhaseSuspended, "2"))
		time.Sleep(time.Millisecond)
		b.Publish(in(api.PhaseRunning, "3"))
		time.Sleep(time.Minute)
		if got := all(); len(got) != before+1 || got[before].Metadata.Labels[api.LabelPhase] != "Running" {
			t.Errorf("written in one turn: %+v", got[before:])
		}
		begin = time.Now()
		busy := in(api.PhaseRunning, "4")
		busy.Tasks.Running = 1
		b.Publish(busy)
		if got := all(); !got[len(got)-1].at.Equal(begin) {
			t.Error("a task has waited for the turn of its pod")
		}
	})
}

// What a drain does is shown, with its reason; the last word is written at the end, and
// at once.
func TestThePodOfADrain(t *testing.T) {
	podOf(t, nil, func(t *testing.T, p *Pod, b *Board, all func() []wrote, end func()) {
		time.Sleep(time.Minute)
		for _, kind := range []string{api.ConditionDraining, api.ConditionDrained} {
			if c := all()[0].is(kind); c.Status != "Unknown" || c.Reason != "MapsNotRead" {
				t.Errorf("%+v", c)
			}
		}
		b.Publish(in(api.PhaseRunning, "1"))
		time.Sleep(time.Minute)
		drain := in(api.PhaseDraining, "2")
		drain.Why, drain.Reason, drain.Tasks.Running = "kernel upgrade", "2 tasks still run", 2
		drain.InFlight = []api.InFlight{{ID: "oldest"}, {ID: "other"}}
		b.Publish(drain)
		began := time.Now()
		time.Sleep(time.Minute)
		got := all()
		last := got[len(got)-1]
		if after := last.at.Sub(began); after < 0 || after > podSpread {
			t.Errorf("written after %s", after)
		}
		if c := last.is(api.ConditionDraining); c.Status != "True" || c.Reason != "DrainAndSuspend" ||
			c.Message != "the global map says DrainAndSuspend; kernel upgrade; 2 tasks still run" || !c.LastTransitionTime.Equal(began.Truncate(time.Second)) {
			t.Errorf("%+v", c)
		}
		if c := last.is(api.ConditionDrained); c.Status != "False" || !c.LastTransitionTime.Before(began) {
			t.Errorf("%+v", c)
		}
		var s api.Status
		if err := json.Unmarshal([]byte(last.Metadata.Annotations[api.AnnotationStatus]), &s); err != nil || len(s.InFlight) != 1 || s.InFlight[0].ID != "oldest" || s.Tasks.Running != 2 {
			t.Errorf("%+v, %v", s, err)
		}
		if last.Metadata.UID != "42" || last.Metadata.Labels[api.LabelPhase] != "Draining" || last.Metadata.Labels[api.LabelBusy] != "true" {
			t.Errorf("%+v", last.Metadata)
		}
		// What is left is news by itself, and no whole fleet has it at once.
		drain.Tasks.Running = 1
		b.Publish(drain)
		time.Sleep(time.Second / 2)
		if n := len(all()); n != len(got)+1 {
			t.Errorf("%d writes for a task that ended in a drain, want 1", n-len(got))
		}
		done := in(api.PhaseTerminated, "3")
		done.Effective, done.Why = api.DrainAndTerminate, "rack 7 goes"
		done.Reason = "drained because the global map says DrainAndTerminate: rack 7 goes" // as the exit message says
		b.Publish(done)
		at := time.Now()
		end()
		got = all()
		last = got[len(got)-1]
		if c := last.is(api.ConditionDrained); c.Status != "True" || c.Reason != "DrainAndTerminate" || c.Message != done.Reason || !last.at.Equal(at) || last.Metadata.Labels[api.LabelBusy] != "false" {
			t.Errorf("%s after the end: %+v", last.at.Sub(at), last)
		}
	})
}

// Who lacks the right says so once, and works as if there were no pod: no task waits.
// Once it is given, the pod is written.
func TestThePodWithoutTheRight(t *testing.T) {
	var refused atomic.Int64
	var may atomic.Bool
	var last time.Time
	log := podOf(t, func() error {
		if may.Load() {
			return nil
		}
		if now := time.Now(); !last.IsZero() && now.Sub(last) > podLongest+10*time.Millisecond {
			t.Errorf("a pause of %s", now.Sub(last))
		}
		last = time.Now()
		refused.Add(1)
		return &kube.Refusal{Code: 403, Message: "no"}
	}, func(t *testing.T, p *Pod, b *Board, all func() []wrote, _ func()) {
		b.Publish(in(api.PhaseRunning, "1"))
		time.Sleep(time.Hour)
		if n := refused.Load(); n < 55 || n > 130 {
			t.Errorf("asked %d times in an hour", n)
		}
		begin := time.Now()
		p.Busy(t.Context())
		if time.Since(begin) > 0 {
			t.Error("a task has waited")
		}
		may.Store(true)
		time.Sleep(podLongest)
		if len(all()) == 0 {
			t.Error("not written with the right")
		}
	})
	if n := strings.Count(log, "\n"); n != 1 || !strings.Contains(log, "level=INFO") || !strings.Contains(log, "403 Forbidden: no") {
		t.Errorf("log %q", log)
	}
}

// An API server that does not answer holds up the first task for a moment, and the end
// for no longer than it may.
func TestThePodOfASilentServer(t *testing.T) {
	podOf(t, func() error { time.Sleep(time.Hour); return errors.New("away") }, func(t *testing.T, p *Pod, b *Board, _ func() []wrote, end func()) {
		p.write = func(ctx context.Context, _ any) error { <-ctx.Done(); return ctx.Err() }
		b.Publish(in(api.PhaseRunning, "1"))
		time.Sleep(time.Minute)
		begin := time.Now()
		p.Busy(t.Context())
		if took := time.Since(begin); took > podWait {
			t.Errorf("a task has waited for %s", took)
		}
		begin = time.Now()
		closed, cancel := context.WithCancel(t.Context())
		cancel()
		p.Busy(closed)
		if time.Since(begin) > 0 {
			t.Error("a task has waited behind a closed gate")
		}
		end()
		if took := time.Since(begin); took > podEnd {
			t.Errorf("the end took %s", took)
		}
	})
}

// A runner outside of a pod has none to write on, and one without a cluster nothing at all.
func TestNoPod(t *testing.T) {
	for _, p := range []*Pod{NewPod(new(kube.Client), nil, "lab", "", ""), NewPod(nil, nil, "", "pod-1", "42")} {
		p.Busy(t.Context())
		if err := p.Run(t.Context(), nil); p != nil || err != nil {
			t.Errorf("%v, %v", p, err)
		}
	}
	e := NewEvents(nil, nil, "", "a", "pod-1", "42")
	e.Transition(api.Status{}, "x")
	e.Problem("node-1", "x")
	e.Close()
}

// A board that is closed has no news; a pod that waited for some would not rest. The
// clock is the real one, as that of a bubble stands still while something is busy.
func TestThePodEndsWithTheBoard(t *testing.T) {
	t.Parallel()
	p := NewPod(new(kube.Client), slog.New(slog.DiscardHandler), "lab", "pod-1", "42")
	b := NewBoard(api.Status{Runner: "a", PID: 1, Phase: api.PhaseRunning})
	p.write = func(context.Context, any) error {
		b.Close()
		return nil
	}
	p.wanted <- struct{}{} // so that the first write is at once
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, b) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * podPace):
		t.Error("it goes on, though the board is closed")
		cancel()
		<-ended
	}
	cancel()
}
