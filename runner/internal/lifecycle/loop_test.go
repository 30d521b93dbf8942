package lifecycle_test

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
	. "github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// bench is a loop whose surroundings the story plays.
type bench struct {
	*testing.T
	gate    *gate.Gate
	maps    chan Snapshot
	signals chan os.Signal
	fresh   func(context.Context) (Snapshot, error)

	mu   sync.Mutex
	said said
}

// said is what the loop did.
type said struct {
	reads   int // fresh reads begun
	stops   []Stop
	report  Report
	changes int // transitions
	exit    *Exit
}

func (b *bench) note(what func(*said)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	what(&b.said)
}

// now is what the loop did up to now, when it can do no more.
func (b *bench) now() said {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.said
}

// play runs a loop in a bubble of fake time.
func play(t *testing.T, story func(*bench)) {
	within(t)
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, gate: gate.New(), maps: make(chan Snapshot), signals: make(chan os.Signal)}
		b.fresh = func(context.Context) (Snapshot, error) { return maps("DrainAndTerminate", "absent"), nil }
		loop := &Loop{
			Machine: Machine{Settle: settle, GracePeriod: 25 * time.Second, KillDelay: 3 * time.Second},
			Log:     slog.New(slog.DiscardHandler), Gate: b.gate, Maps: b.maps, Signals: b.signals,
			ReadFresh: func(ctx context.Context) (Snapshot, error) {
				b.note(func(s *said) { s.reads++ })
				return b.fresh(ctx)
			},
			Stop:       func(how Stop) { b.note(func(s *said) { s.stops = append(s.stops, how) }) },
			Publish:    func(r Report, _ Snapshot, _ Memory, _ gate.Snapshot) { b.note(func(s *said) { s.report = r }) },
			Transition: func(Report, Report) { b.note(func(s *said) { s.changes++ }) },
			Problem:    func(View, Problem) {},
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if exit, err := loop.Run(ctx); err == nil {
				b.note(func(s *said) { s.exit = &exit })
			}
		}()
		story(b)
		cancel()
		<-done // and with it every goroutine of the loop, or the bubble panics
	})
}

func (b *bench) see(global string) {
	b.maps <- maps(global, "absent")
	synctest.Wait()
}

func (b *bench) wantPhase(want api.Phase) {
	b.Helper()
	if b.now().report.Phase != want {
		b.Errorf("phase %s, want %s", b.now().report.Phase, want)
	}
}

func TestLoopExitsAfterTheWindowAndAFreshRead(t *testing.T) {
	play(t, func(b *bench) {
		b.see("DrainAndTerminate")
		b.wantPhase(api.PhaseDraining)
		time.Sleep(settle - 1)
		if b.now().reads != 0 || b.now().exit != nil {
			t.Errorf("before the window is over: %d reads, exit %v", b.now().reads, b.now().exit)
		}
		time.Sleep(time.Nanosecond)
		b.wantPhase(api.PhaseTerminated)
		if b.now().reads != 1 || b.now().exit == nil || b.now().exit.Code != api.ExitDrained {
			t.Errorf("after the window: %d reads, exit %v, want one and 0", b.now().reads, b.now().exit)
		}
	})
}

func TestLoopIsCancelledDuringTheFreshRead(t *testing.T) {
	play(t, func(b *bench) {
		b.fresh = func(ctx context.Context) (Snapshot, error) {
			<-ctx.Done()
			return Snapshot{}, ctx.Err()
		}
		b.see("DrainAndTerminate")
		time.Sleep(settle + time.Second)
		if b.now().reads != 1 {
			t.Fatalf("%d fresh reads, want one under way", b.now().reads)
		}
		b.see("Running")
		b.wantPhase(api.PhaseRunning)
		time.Sleep(time.Hour)
		if b.now().exit != nil || b.now().reads != 1 {
			t.Errorf("after the cancel: exit %v, %d reads", b.now().exit, b.now().reads)
		}
	})
}

func TestLoopExitsOnWhatItKnowsWhenNobodyAnswers(t *testing.T) {
	play(t, func(b *bench) {
		b.fresh = func(ctx context.Context) (Snapshot, error) {
			<-ctx.Done()
			return Snapshot{}, ctx.Err()
		}
		b.see("DrainAndTerminate")
		time.Sleep(settle + 30*time.Second - 1)
		if b.now().exit != nil {
			t.Errorf("exit %v before 30 seconds", b.now().exit)
		}
		time.Sleep(time.Nanosecond)
		if b.now().exit == nil || b.now().exit.Code != api.ExitDrained {
			t.Errorf("exit %v after 30 seconds, want 0", b.now().exit)
		}
	})
}

func TestLoopWaitsForTheTasksAndStopsThemInTime(t *testing.T) {
	play(t, func(b *bench) {
		b.see("Running")
		ticket, err := b.gate.Admit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ticket.Start(api.InFlight{ID: "a"})
		b.signals <- syscall.SIGTERM
		b.wantPhase(api.PhaseDraining)
		time.Sleep(25 * time.Second)
		if len(b.now().stops) != 1 || b.now().stops[0] != Terminate {
			t.Errorf("stops %v, want one Terminate", b.now().stops)
		}
		b.signals <- syscall.SIGTERM
		if len(b.now().stops) != 2 || b.now().stops[1] != Kill || b.now().exit != nil {
			t.Errorf("stops %v, exit %v, want a Kill and time for it", b.now().stops, b.now().exit)
		}
		ticket.Leave(gate.Requeued)
		if b.now().exit == nil || b.now().exit.Code != api.ExitForced {
			t.Errorf("exit %v, want %d", b.now().exit, api.ExitForced)
		}
	})
}

// Some senders signal a process and then its group (R7).
func TestLoopTakesASecondSignalWithinASecondForTheFirst(t *testing.T) {
	play(t, func(b *bench) {
		b.see("Running")
		ticket, err := b.gate.Admit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ticket.Start(api.InFlight{ID: "a"})
		b.signals <- syscall.SIGTERM
		b.signals <- syscall.SIGTERM
		time.Sleep(time.Second - 1)
		b.signals <- syscall.SIGHUP
		if stops := b.now().stops; len(stops) != 0 {
			t.Errorf("stops %v within the second", stops)
		}
		time.Sleep(time.Nanosecond)
		b.signals <- syscall.SIGTERM
		if stops := b.now().stops; len(stops) != 1 || stops[0] != Kill {
			t.Errorf("stops %v after it, want a Kill", stops)
		}
		ticket.Leave(gate.Requeued)
	})
}

// catalogue: row 26
func TestLoopTellsNoTransitionForTheSameMaps(t *testing.T) {
	play(t, func(b *bench) {
		b.see("DrainAndSuspend")
		before := b.now().changes
		for range 5 {
			b.see("DrainAndSuspend")
		}
		if b.now().changes != before {
			t.Errorf("%d transitions for maps that did not change", b.now().changes-before)
		}
		b.wantPhase(api.PhaseSuspended)
	})
}
