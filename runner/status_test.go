package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
)

// TestWatch watches a runner that is not there until that was said, tells of two
// statuses and is killed in the middle of a third.
func TestWatch(t *testing.T) {
	t.Parallel()
	// Nobody else can have the port, and who comes to it is refused before Listen.
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		t.Fatal(err)
	}
	port := os.NewFile(uintptr(socket), "port")
	defer port.Close()
	bound, err := unix.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", bound.(*unix.SockaddrInet4).Port)
	runner := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got, want := r.URL.String(), "/statusz?watch=true"; got != want {
			t.Errorf("asked for %s, want %s", got, want)
		}
		fmt.Fprintln(w, `{"runner":"r1","sequence":1,"phase":"Unknown"}`)
		fmt.Fprintln(w, `{"runner":"r1","sequence":2,"phase":"Running"}`)
		fmt.Fprint(w, `{"runner":"r1","sequ`)
	})}
	begin := func() {
		err := unix.Listen(socket, 16)
		if err == nil {
			var listener net.Listener
			if listener, err = net.FileListener(port); err == nil {
				err = runner.Serve(listener)
			}
		}
		if !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer runner.Close()

	var out, errOut strings.Builder
	said := writes(func(text []byte) (int, error) {
		if errOut.Len() == 0 {
			serving.Go(begin)
		}
		return errOut.Write(text)
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if code := run(ctx, []string{"status", "--watch", "--output=json", "--address", address}, nil, &out, said); code != 0 {
		t.Fatalf("exit code is %d: %s", code, errOut.String())
	}
	if want := "connect: connection refused; asking again until it answers\n"; strings.Count(errOut.String(), want) != 1 {
		t.Errorf("it says %q, want %q once", errOut.String(), want)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], `{"runner":{`) || !strings.Contains(lines[0], `"phase":"Unknown"`) || !strings.Contains(lines[1], `"phase":"Running"`) {
		t.Errorf("printed is\n%s\nwant the two statuses, one a line", out.String())
	}
}

type writes func([]byte) (int, error)

func (w writes) Write(text []byte) (int, error) { return w(text) }

// A watch of a quiet runner ends when nobody reads what it prints, and has the shape
// of one look.
func TestWatchEndsWithItsReader(t *testing.T) {
	t.Parallel()
	quiet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, `{"runner":"r1","sequence":1,"phase":"Running"}`)
		if r.URL.RawQuery != "" {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}))
	defer quiet.Close()
	status := func(out io.Writer, flags ...string) int {
		return run(t.Context(), append([]string{"status", "--output=json", "--address", quiet.Listener.Addr().String()}, flags...), nil, out, io.Discard)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	code := make(chan int, 1)
	go func() { code <- status(writer, "--watch") }()
	var once bytes.Buffer
	status(&once)
	var watched, looked any
	if err := errors.Join(json.NewDecoder(reader).Decode(&watched), json.Unmarshal(once.Bytes(), &looked)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(looked, watched); diff != "" {
		t.Errorf("one look and a watch differ, look - watch +\n%s", diff)
	}
	select {
	case got := <-code:
		t.Fatalf("it has ended with %d before its reader", got)
	default:
	}
	reader.Close()
	if got := <-code; got != 0 { // the test's timeout bounds this
		t.Errorf("exit code is %d", got)
	}
}

// Before anything was read nothing is said to be so, or to be absent.
func TestStatusBeforeAnythingWasRead(t *testing.T) {
	var out strings.Builder
	unread := &api.MapStatus{Name: "studioml-go-runner"}
	s := &api.Status{Runner: "r1", Phase: api.PhaseUnknown, Maps: api.Maps{Namespace: "lab", Global: unread}}
	if err := (&Printing{}).print(&out, answers{Runner: s}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Unknown\n", "lab/studioml-go-runner: not read yet\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	for _, wrong := range []string{"absent", " for ", "heard"} {
		if strings.Contains(out.String(), wrong) {
			t.Errorf("%q in\n%s", wrong, out.String())
		}
	}
}

func TestWatchTakesNoQueue(t *testing.T) {
	var out, errOut strings.Builder
	if code := run(t.Context(), []string{"status", "--watch", "--spool", t.TempDir()}, nil, &out, &errOut); code != 1 {
		t.Errorf("exit code is %d, want 1", code)
	}
	if !strings.Contains(errOut.String(), "--watch and --spool cannot be used together") {
		t.Errorf("stderr is %q", errOut.String())
	}
}

// What cannot be printed is not the runner's fault.
func TestStatusThatCannotBePrinted(t *testing.T) {
	runner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, `{"runner":"r1"}`) }))
	defer runner.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for _, args := range [][]string{{}, {"--watch"}} {
		var errOut strings.Builder
		code := run(t.Context(), append([]string{"status", "--address", runner.Listener.Addr().String()}, args...), nil, full, &errOut)
		if want := "runner: write /dev/full: no space left on device\n"; code != 1 || errOut.String() != want {
			t.Errorf("%s: exit code %d, stderr %q, want %q", args, code, errOut.String(), want)
		}
	}
}
