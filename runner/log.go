package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

const logBacklog = 4096 // lines

// logWriter takes lines for a writer that may be slow, stuck or gone, without
// ever waiting for it. What does not fit is dropped, counted and said.
type logWriter struct {
	lines   chan []byte // nil asks for a word when all before it are written
	written chan struct{}
	dropped atomic.Uint64
}

// newLogWriter writes to w. Its goroutine ends with the process: a write that the
// system does not finish cannot be ended otherwise.
func newLogWriter(w io.Writer, handler func(io.Writer) slog.Handler) *logWriter {
	l := &logWriter{lines: make(chan []byte, logBacklog), written: make(chan struct{}, 1)}
	direct := slog.New(handler(w))
	go func() {
		told := uint64(0)
		for line := range l.lines {
			if line == nil {
				l.written <- struct{}{}
			} else if _, err := w.Write(line); err != nil {
				l.dropped.Add(1)
			} else if now := l.dropped.Load(); now != told {
				direct.Warn("log lines dropped", "count", now-told, "reason", "nobody took them in time")
				told = now
			}
		}
	}()
	return l
}

// Write implements io.Writer; a handler calls it once for each line.
func (l *logWriter) Write(line []byte) (int, error) {
	select {
	case l.lines <- bytes.Clone(line):
	default:
		l.dropped.Add(1)
	}
	return len(line), nil
}

// flush waits until all lines are written, but not for long.
func (l *logWriter) flush() {
	hurry(func() {
		l.lines <- nil
		<-l.written
	})
}

// complain writes the last word of a process, and does not wait for long where
// nobody reads it: the process must end.
func complain(w io.Writer, problem error) {
	hurry(func() { fmt.Fprintf(w, "runner: %v\n", problem) })
}

// hurry waits only for a moment for something which, at the end of a process, may as
// well be left undone.
func hurry(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(lifecycle.LogEnd):
	}
}
