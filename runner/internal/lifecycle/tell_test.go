package lifecycle_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
	. "github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// witness is a loop and what it told: each transition and each problem in a
// line, the log, and how often it published.
type witness struct {
	*Loop
	maps    chan Snapshot
	signals chan os.Signal
	ended   chan Exit

	mu        sync.Mutex
	log       bytes.Buffer
	lines     []string
	published int
	reading   []context.Context // of all fresh reads, the last one last
	over      int               // how many of these have returned
}

// observe runs a loop in a bubble until the story and the loop have ended. Its
// fresh reads take a second to obey the end of their context.
func observe(t *testing.T, story func(*witness)) {
	within(t)
	synctest.Test(t, func(t *testing.T) {
		w := &witness{maps: make(chan Snapshot), signals: make(chan os.Signal), ended: make(chan Exit, 1)}
		w.Loop = &Loop{
			Machine: Machine{Settle: settle, GracePeriod: 25 * time.Second, KillDelay: 3 * time.Second},
			Log:     slog.New(slog.NewTextHandler(&w.log, nil)), Gate: gate.New(), Maps: w.maps, Signals: w.signals,
			Stop:    func(Stop) {},
			Publish: func(Report, Snapshot, Memory, gate.Snapshot) { w.published++ },
			Transition: func(from, to Report) {
				w.tell(fmt.Sprintf("%s/%s to %s/%s", from.Phase, from.Source, to.Phase, to.Source))
			},
			Problem: func(v View, p Problem) { w.tell(v.Name + ": " + p.Text) },
			ReadFresh: func(ctx context.Context) (Snapshot, error) {
				w.mu.Lock()
				w.reading = append(w.reading, ctx)
				w.mu.Unlock()
				<-ctx.Done()
				time.Sleep(time.Second)
				w.mu.Lock()
				w.over++
				w.mu.Unlock()
				return Snapshot{}, ctx.Err()
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan struct{})
		go func() {
			defer close(done)
			if exit, err := w.Run(ctx); err == nil {
				w.ended <- exit
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if n := len(w.reading) - w.over; n > 0 {
				t.Errorf("the loop has ended, and %d of its fresh reads have not", n)
			}
		}()
		synctest.Wait()
		story(w)
		cancel()
		<-done
	})
}

// within ends the process when a test hangs: a bubble does not notice a lock
// that is never released, nor a loop that never ends.
func within(t *testing.T) {
	t.Helper()
	name := t.Name()
	hangs := time.AfterFunc(time.Minute, func() { panic(name + " hangs") })
	t.Cleanup(func() { hangs.Stop() })
}

func (w *witness) tell(line string) { w.lines = append(w.lines, line) }

func (w *witness) see(m Snapshot) {
	w.maps <- m
	synctest.Wait()
}

// want compares what was told since the last time.
func (w *witness) want(t *testing.T, lines ...string) {
	t.Helper()
	if !slices.Equal(w.lines, lines) {
		t.Errorf("told\n%q, want\n%q", w.lines, lines)
	}
	w.lines = nil
}

func TestEachTransitionIsToldOnce(t *testing.T) {
	observe(t, func(w *witness) {
		w.want(t) // it is Unknown, as it was
		w.see(maps("Running", "absent"))
		w.want(t, "Unknown/ to Running/global")
		w.see(maps("Running", "absent"))
		w.want(t)
		w.see(maps("Running", "Running"))
		w.want(t, "Running/global to Running/node")
		w.see(maps("DrainAndSuspend", "Running"))
		w.want(t, "Running/node to Running/node") // another value is shadowed
		w.see(maps("DrainAndSuspend", "absent"))
		w.want(t, "Running/node to Suspended/global")
		w.see(maps("DrainAndTerminate", "absent"))
		w.want(t, "Suspended/global to Draining/global")
	})
}

func TestEachProblemIsToldOnce(t *testing.T) {
	const kept, unset = "; Running stays in force", "; the map counts as unset"
	problem := func(name, value, end string) string {
		_, err := api.ParseState(value)
		return fmt.Sprintf("ConfigMap %q: %v%s", name, err, end)
	}
	told := func(w *witness, m Snapshot, want ...string) {
		t.Helper()
		w.lines = nil
		w.see(m)
		if p := w.lines; len(p) > 0 && strings.Contains(p[0], " to ") {
			w.lines = p[1:]
		}
		w.want(t, want...)
	}
	observe(t, func(w *witness) {
		told(w, maps("Running", "Running"))
		global := api.GlobalMapName + ": " + problem(api.GlobalMapName, "Abort", kept)
		node := "node-1: " + problem("node-1", "Abort", kept)
		told(w, maps("Abort", "Running"), global)
		told(w, maps("Abort", "Running"))
		told(w, maps("Abort", "Abort"), node)
		told(w, maps("Abort", "Abort"))
		told(w, maps("Stop", "Abort"), api.GlobalMapName+": "+problem(api.GlobalMapName, "Stop", kept))
		told(w, maps("Stop", "Stop"), "node-1: "+problem("node-1", "Stop", kept))
		told(w, maps("absent", "absent"))
		told(w, maps("Abort", "Abort"), api.GlobalMapName+": "+problem(api.GlobalMapName, "Abort", unset), "node-1: "+problem("node-1", "Abort", unset))
	})
}

// What the fresh read would say is no longer asked for: it ends at once, and
// with it its goroutine.
func TestAFreshReadEndsWithTheQuestion(t *testing.T) {
	for name, end := range map[string]func(*witness){
		"cancelled": func(w *witness) { w.see(maps("Running", "absent")) },
		"a signal":  func(w *witness) { w.signals <- syscall.SIGTERM },
		"the end":   func(*witness) {},
	} {
		t.Run(name, func(t *testing.T) {
			observe(t, func(w *witness) {
				w.see(maps("DrainAndTerminate", "absent"))
				time.Sleep(settle)
				synctest.Wait()
				w.see(maps("DrainAndTerminate", "absent")) // which asks for the same
				if len(w.reading) != 1 || w.reading[0].Err() != nil {
					t.Fatalf("%d fresh reads begun, want one under way", len(w.reading))
				}
				end(w)
				if name != "the end" {
					synctest.Wait()
					if w.reading[0].Err() == nil {
						t.Error("the fresh read goes on")
					}
				}
			})
		})
	}
}

func TestAFreshReadThatHasAnsweredHoldsNothing(t *testing.T) {
	observe(t, func(w *witness) {
		var read context.Context
		w.ReadFresh = func(ctx context.Context) (Snapshot, error) {
			read = ctx
			return maps("Running", "absent"), nil
		}
		w.see(maps("DrainAndTerminate", "absent"))
		time.Sleep(settle)
		synctest.Wait()
		if read == nil || read.Err() == nil {
			t.Error("the context of a read that is over lives on")
		}
	})
}

// A runner with nothing to wait for sleeps.
func TestNothingIsPublishedWithoutACause(t *testing.T) {
	observe(t, func(w *witness) {
		w.see(maps("DrainAndTerminate", "absent")) // a step is due after the window
		w.see(maps("Running", "absent"))           // and is not any more
		before := w.published
		time.Sleep(time.Hour)
		if w.published != before {
			t.Errorf("published %d times in an hour without a change", w.published-before)
		}
	})
}

func TestSignalsAreLogged(t *testing.T) {
	observe(t, func(w *witness) {
		w.signals <- syscall.SIGTERM
		synctest.Wait()
		if got := w.log.String(); !strings.Contains(got, "msg=\"signal received\" signal=terminated count=1\n") {
			t.Errorf("log %q, want the signal", got)
		}
	})
}

// R11: a task that starts while the machine makes up its mind to close the gate
// is seen before anything is told. The value is so long that this takes a while.
func TestATaskThatStartsJustBeforeTheGateClosesIsSeen(t *testing.T) {
	within(t)
	long := maps("DrainAndSuspend"+strings.Repeat(" ", 4<<20), "absent")
	for try := range 20 {
		g := gate.New()
		open, drained := make(chan struct{}), make(chan api.Phase, 1)
		loop := &Loop{
			Log: slog.New(slog.DiscardHandler), Gate: g, Stop: func(Stop) {},
			Publish: func(r Report, _ Snapshot, _ Memory, _ gate.Snapshot) {
				switch {
				case r.Phase == api.PhaseRunning:
					close(open)
				case r.Effective == api.DrainAndSuspend && len(drained) == 0:
					drained <- r.Phase // the first that is told of the drain
				}
			},
			Transition: func(Report, Report) {}, Problem: func(View, Problem) {},
		}
		read := make(chan Snapshot)
		loop.Maps = read
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { _, _ = loop.Run(ctx) })
		read <- maps("Running", "absent")
		<-open
		read <- long
		time.Sleep(time.Duration(try) * 200 * time.Microsecond) // somewhere in the step; there is nothing to wait for
		at, end := context.WithCancel(ctx)
		end() // now or never
		if ticket, err := g.Admit(at); err == nil {
			ticket.Start(api.InFlight{ID: "a"})
		}
		if p := <-drained; p == api.PhaseSuspended && g.Snapshot().Counts.Running > 0 {
			t.Errorf("%s was published while a task ran", p)
		}
		cancel()
		done.Wait()
	}
}
