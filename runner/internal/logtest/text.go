// Package logtest is for tests that look at what was logged.
package logtest

import (
	"bytes"
	"sync"
)

// Text is a log that can be read while it is written.
type Text struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *Text) Write(line []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(line)
}

func (t *Text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}
