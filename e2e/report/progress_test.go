package report_test

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/studioml/studio-go-runner/e2e/report"
)

// screen keeps what is written, and says when it has some text.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
	want string
	has  chan struct{}
}

func (s *screen) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(data)
	if s.want != "" && strings.Contains(s.text.String(), s.want) {
		s.want = ""
		close(s.has)
	}
	return len(data), nil
}

func spec(name string, state types.SpecState, why string) types.SpecReport {
	return types.SpecReport{LeafNodeText: name, LeafNodeType: types.NodeTypeIt, State: state, RunTime: 1500e6, Failure: types.Failure{Message: why}}
}

// follow plays a run of three specs, one of which nobody asked for.
func follow(t *testing.T, width func() int, last string) string {
	t.Helper()
	dir := t.TempDir()
	in, ginkgo := io.Pipe()
	out := &screen{want: last, has: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- report.Follow(in, dir, out, width) }()
	for _, err := range []error{
		report.Begin(dir, 2),
		report.Ended(dir, spec("good", types.SpecStatePassed, "")),
		report.Ended(dir, spec("not asked for", types.SpecStateSkipped, "")),
		report.Ended(dir, spec("bad", types.SpecStateFailed, "phase is Running\nmore")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	_, _ = io.WriteString(ginkgo, "••\n------\n• [FAILED] bad\n")
	<-out.has // the test's timeout bounds this
	_ = ginkgo.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return out.text.String()
}

// A plain log gets lines, and failures at once; the dots are gone.
func TestProgressInALog(t *testing.T) {
	got := follow(t, nil, "2 of 2 done")
	for _, want := range []string{"1 of 2 done; slowest: 1.50 s, good\n", "FAILED after 1.50 s: bad\n", ": phase is Running\n", "2 of 2 done, 1 FAILED; slowest: 1.50 s, good\n", "------\n• [FAILED] bad\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("it lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "••") || strings.Contains(got, "\x1b") {
		t.Errorf("it has dots or escapes:\n%q", got)
	}
}

// A terminal has one line that is written anew, no wider than it is, and that is
// gone at the end.
func TestProgressOnATerminal(t *testing.T) {
	got := follow(t, func() int { return 20 }, "2 of 2 done, 1 FA")
	for _, want := range []string{"FAILED after 1.50 s: bad\n", "2 of 2 done, 1 FAI…\r\x1b[K"} {
		if !strings.Contains(got, want) {
			t.Errorf("it lacks %q:\n%q", want, got)
		}
	}
	if !strings.HasSuffix(got, "\r\x1b[K") && !strings.HasSuffix(got, "bad\n") {
		t.Errorf("a line is left at its end:\n%q", got)
	}
}
