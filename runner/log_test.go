package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// tap is a writer that may be closed for a while, or broken.
type tap struct {
	mu     sync.Mutex
	open   *sync.Cond
	closed bool
	broken error
	bytes.Buffer
}

func (t *tap) set(closed bool, broken error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed, t.broken = closed, broken
	t.open.Broadcast()
}

func (t *tap) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.closed {
		t.open.Wait()
	}
	if t.broken != nil {
		return 0, t.broken
	}
	return t.Buffer.Write(b)
}

func TestTheLogSaysWhatItDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(tap)
		out.open = sync.NewCond(&out.mu)
		lines := newLogWriter(out, func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) })
		defer close(lines.lines)
		log := slog.New(slog.NewTextHandler(lines, nil))

		out.set(true, nil)
		for range logBacklog + 11 {
			log.Info("hello") // none of them waits
		}
		lines.flush()                                      // for as long as it may
		if n := lines.dropped.Load(); n != 10 && n != 11 { // one may be in the writer's hand
			t.Errorf("%d lines dropped, want the 10 or 11 that did not fit", n)
		}
		out.set(false, errors.New("no space"))
		synctest.Wait() // that flush ends as well, or the next would take its word for its own
		lines.flush()
		out.set(false, nil)
		before := lines.dropped.Load()
		if before < logBacklog {
			t.Errorf("%d lines dropped, want those that could not be written, too", before)
		}
		log.Info("again")
		lines.flush()
		if text := out.String(); strings.Count(text, "hello") != 0 || strings.Count(text, "msg=again") != 1 ||
			!strings.Contains(text, `level=WARN msg="log lines dropped" count=`) {
			t.Errorf("written is %q", text)
		}
	})
}

// What is not known of a transition is not logged as if it were.
func TestTheLogLeavesOutWhatIsNotKnown(t *testing.T) {
	for format, want := range map[string]string{
		"text": "msg=news runner=r phase=Running zero=0\n",
		"json": `"msg":"news","runner":"r","phase":"Running","zero":0}` + "\n",
	} {
		var out strings.Builder
		s := Serve{LogFormat: format, LogLevel: "info"}
		log, lines := s.logger(&out, "r")
		log.Info("news", "phase", api.PhaseRunning, "target", api.Unset, "why", "", "heard", time.Time{}, "zero", 0)
		log.Debug("more")
		lines.flush()
		if got := out.String(); !strings.HasSuffix(got, want) || !strings.Contains(got, time.Now().Format("2006")) {
			t.Errorf("%s: logged is %q, want the end %q", format, got, want)
		}
	}
}
