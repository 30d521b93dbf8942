package pods

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/targets"
)

// What tasks note is told beside what the runner says, each once, and in its order.
func TestNotesComeWithTheStatuses(t *testing.T) {
	r := knownPod(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Query().Get("container") == beside {
			fmt.Fprint(w, "runner: connection refused; asking again until it answers\n")
			fmt.Fprint(w, "{\"runner\":{\"sequence\":1}}\nstart\ta\t1\tr\t\n{\"runner\":{\"sequence\":2}}\nend\ta\t1\tr\t\n")
		}
	})
	r.now(t, nowOver)
	ctx, cancel := context.WithCancel(t.Context())
	var notes []string
	var reading sync.WaitGroup
	reading.Go(func() {
		if err := r.env.Journal(ctx, func(n targets.TaskNote) { notes = append(notes, fmt.Sprint(n.Task, n.End)) }); err != nil {
			t.Error(err)
		}
	})
	told := &heard{}
	bound, free := context.WithTimeout(t.Context(), 20*time.Second) // a line that is no note ends the journal, and holds up those behind it
	defer free()
	r.follow(bound, parts{Port: "8080"}, told)
	cancel()
	reading.Wait()
	if want := []string{"afalse", "atrue"}; !slices.Equal(notes, want) {
		t.Errorf("notes are %q, want %q", notes, want)
	}
	if want := []string{"status 1", "status 2", "exit 0"}; !slices.Equal(told.words, want) {
		t.Errorf("it told %q, want %q", told.words, want)
	}
}

// The container beside a runner reads what tasks note, also before it reads; and it
// ends with what it runs, or on TERM, but not before it has read all.
func TestTheContainerBesideARunner(t *testing.T) {
	for _, test := range []struct {
		name    string
		command []string
		end     func(*os.Process) error
	}{
		{"with a program", []string{"sh", "-c", "echo '{}'; sleep 0.3"}, func(*os.Process) error { return nil }},
		{"a sidecar", nil, func(p *os.Process) error { return p.Signal(syscall.SIGTERM) }},
	} {
		journal := filepath.Join(t.TempDir(), "journal")
		if err := syscall.Mkfifo(journal, 0o600); err != nil {
			t.Fatal(err)
		}
		fifo, err := os.OpenFile(journal, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer fifo.Close()
		fmt.Fprint(fifo, "start\t\\a  b\t1\n")
		var out bytes.Buffer
		c := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"-c", besideScript, beside}, test.command...)...)
		c.Env, c.Stdout = append(os.Environ(), "journal="+journal), &out
		stderr, err := c.StderrPipe()
		if err := errors.Join(err, c.Start()); err != nil {
			t.Fatal(err)
		}
		notes := bufio.NewReader(stderr)
		first, _ := notes.ReadString('\n') // it has its trap now
		fmt.Fprint(fifo, "end\t\\a  b\t1\n")
		err = test.end(c.Process)
		rest, readErr := io.ReadAll(notes)
		if err := errors.Join(err, readErr, c.Wait()); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if got, want := first+string(rest), "start\t\\a  b\t1\nend\t\\a  b\t1\n"; got != want {
			t.Errorf("%s: it repeats %q, want %q", test.name, got, want)
		}
		name, said, _ := strings.Cut(out.String(), "\n")
		if want := strings.Repeat("{}\n", min(1, len(test.command))); !strings.HasPrefix(name, "beside ") || said != want {
			t.Errorf("%s: it says %q, and %q, want %q", test.name, name, said, want)
		}
	}
}

// A pod that cannot be reached holds up no release, and a failure says why tasks may be
// held still; when the pod has ended, nobody tries any more.
func TestAReleaseThatAPodDoesNotHearOf(t *testing.T) {
	tried := make(chan bool, 100)
	r := knownPod(t, func(w http.ResponseWriter, _ *http.Request) {
		tried <- true
		http.Error(w, "the kubelet is away", http.StatusBadGateway)
	})
	r.now(t, nowRunning)
	var trying sync.WaitGroup
	trying.Go(func() { r.letGo(t.Context()) })
	if err := r.env.Release(t.Context(), "held"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		<-tried
	}
	r.now(t, nowOver)
	trying.Wait()
	if r.env.unheard == nil || !strings.Contains(r.env.unheard.Error(), "tasks may be held still") {
		t.Errorf("the evidence says %v", r.env.unheard)
	}
}
