package gpu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/logtest"
)

// stub is a driver's library on a machine without GPUs. What its functions
// answer is the number in a file; it notes each start and shutdown in others.
const stub = `
#include <stdio.h>
static int answer(const char *name) {
	int code = 0;
	FILE *f = fopen(name, "r");
	if (f) { if (fscanf(f, "%d", &code) != 1) code = 0; fclose(f); }
	return code;
}
static void note(const char *name) {
	FILE *f = fopen(name, "a");
	if (f) { fputs("x", f); fclose(f); }
}
int nvmlInit_v2(void) { note(DIR "/inits"); return answer(DIR "/init"); }
int nvmlShutdown(void) { note(DIR "/shutdowns"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 0; return answer(DIR "/count"); }
const char *nvmlErrorString(int code) { return "no luck"; }
int nvmlEventSetCreate(void **set) { return 3; }
`

// buildStub builds the library, once: what cgo has looked up in it is not looked
// up again, so it stays loaded, as the driver's own does.
var buildStub = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "nvml-*"); err != nil {
		return "", err
	}
	source := filepath.Join(dir, "stub.c")
	if err := os.WriteFile(source, []byte(stub), 0o600); err != nil {
		return dir, err
	}
	build := exec.Command("gcc", "-shared", "-fPIC", "-Wl,-z,nodelete", `-DDIR="`+dir+`"`, "-o", filepath.Join(dir, "libnvidia-ml.so.1"), source)
	if output, err := build.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("gcc, which cgo needs as well: %w\n%s", err, output)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := buildStub(); dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// running is a monitor that runs.
type running struct {
	*Monitor
	log   logtest.Text
	ended chan error
	stop  context.CancelFunc
}

func run(t *testing.T, change func(*Monitor)) *running {
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{Monitor: newMonitor("-", "-"), ended: make(chan error, 1), stop: cancel}
	r.Interval, r.Log = 10*time.Millisecond, slog.New(slog.NewTextHandler(&r.log, nil))
	r.Pool.SetDevices([]Device{{GPU: api.GPU{UUID: "GPU-before"}}}, "")
	change(r.Monitor)
	go func() { r.ended <- r.Run(ctx) }()
	t.Cleanup(cancel)
	return r
}

// end requires that Run goes on until it is told to end.
func (r *running) end(t *testing.T) {
	t.Helper()
	select {
	case err := <-r.ended:
		t.Fatalf("Run has ended by itself: %v", err)
	default:
	}
	r.stop()
	select {
	case err := <-r.ended:
		if err != nil {
			t.Errorf("Run ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("Run does not end")
	}
}

// until waits for what must come.
func (r *running) until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not seen in time: %s; problem %q, log:\n%s", what, r.Pool.Problem(), r.log.String())
		}
	}
}

// look waits for the end of a look.
func (r *running) look(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if r.Look(ctx); ctx.Err() != nil {
		t.Fatal("nobody looked")
	}
}

func TestAMonitorThatIsOffLeavesThePoolAlone(t *testing.T) {
	r := run(t, func(m *Monitor) { m.Library, m.Interval = "none", time.Hour })
	r.look(t)
	if got := r.Pool.healthy(); len(got) != 1 || r.Pool.Problem() != "" {
		t.Errorf("healthy %v, problem %q", got, r.Pool.Problem())
	}
	r.look(t) // Run has not ended
	r.end(t)
}

// R13: no library is a runner without GPUs, and is said once.
func TestWithoutALibraryTheRunnerGoesOn(t *testing.T) {
	r := run(t, func(m *Monitor) { m.Library = "/no/such/library" })
	r.look(t)
	if got := r.Pool.healthy(); len(got) != 0 || r.Pool.Problem() != errNoNVML.Error() {
		t.Errorf("healthy %v, problem %q, want none and %q", got, r.Pool.Problem(), errNoNVML)
	}
	r.look(t)
	if text := r.log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, `level=INFO msg="`+errNoNVML.Error()+`"`) {
		t.Errorf("log, want one line of level INFO:\n%s", text)
	}
	r.end(t)
}

func TestTheMonitorFollowsADriver(t *testing.T) {
	within(t)
	dir, err := buildStub()
	if err != nil {
		t.Fatal(err)
	}
	library := filepath.Join(dir, "libnvidia-ml.so.1")
	answer := func(function string, code int) {
		t.Helper()
		next := filepath.Join(dir, "next")
		if err := errors.Join(os.WriteFile(next, []byte(strconv.Itoa(code)), 0o600), os.Rename(next, filepath.Join(dir, function))); err != nil {
			t.Fatal(err)
		}
	}
	noted := func(name string) int {
		text, _ := os.ReadFile(filepath.Join(dir, name))
		return len(text)
	}
	for _, name := range []string{"count", "inits", "shutdowns"} {
		os.RemoveAll(filepath.Join(dir, name)) // of the last run
	}
	answer("init", 9)
	r := run(t, func(m *Monitor) { m.Library = library })
	r.look(t)
	const notLoaded = "the NVIDIA driver is not loaded; load it, or set --nvml-library=none to run without GPUs"
	if r.Pool.Problem() != notLoaded || len(r.Pool.healthy()) != 0 {
		t.Errorf("problem %q, want %q and no healthy GPU", r.Pool.Problem(), notLoaded)
	}
	start := time.Now()
	before := noted("inits")
	r.until(t, "more tries", func() bool { return noted("inits") > before+5 })
	if d := time.Since(start); d < 5*r.Interval {
		t.Errorf("six tries in %s, want a pause of %s between them", d, r.Interval)
	}
	answer("init", 0)
	r.until(t, "the driver", func() bool { return r.Pool.Problem() == "" && r.Pool.Size() == 0 })
	if noted("shutdowns") != 0 {
		t.Error("a driver that was not there was shut down")
	}
	answer("count", 999)
	r.until(t, "the end of NVML", func() bool {
		return r.Pool.Problem() == "NVML does not count the GPUs: no luck" && noted("shutdowns") > 0
	})
	answer("count", 0)
	r.until(t, "the driver again", func() bool { return r.Pool.Problem() == "" })
	last := noted("shutdowns")
	r.end(t)
	if noted("shutdowns") != last+1 {
		t.Error("the driver was not shut down at the end")
	}
	text, line := r.log.String(), `level=WARN msg="GPUs are not available" problem="`+notLoaded+`"`
	if strings.Count(text, line) != 1 || strings.Contains(text, "GPUs found") {
		t.Errorf("the log does not have once %s, or found GPUs:\n%s", line, text)
	}

	for _, function := range []string{"count", "init"} {
		t.Run(function+" hangs", func(t *testing.T) {
			// Its file is a pipe that nobody writes.
			pipe := filepath.Join(dir, function)
			if output, err := exec.Command("sh", "-c", "rm "+pipe+" && mkfifo "+pipe).CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, output)
			}
			held, err := os.OpenFile(pipe, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			r := run(t, func(m *Monitor) { m.Library = library })
			r.until(t, "the hang", func() bool { return strings.HasPrefix(r.Pool.Problem(), "NVML has not answered since ") })
			r.until(t, "its GPU retiring", func() bool { return r.Pool.List()[0].Health == api.Retiring })
			answer(function, 0) // which is what the next call finds
			if _, err := held.WriteString("999"); errors.Join(err, held.Close()) != nil {
				t.Error(err)
			}
			r.until(t, "the end of the call", func() bool { return r.Pool.Problem() == "" })
			r.end(t)
		})
	}
}

// An error of the configuration ends the runner, with its own words.
func TestAnErrorOfTheConfigurationEndsTheMonitor(t *testing.T) {
	machine, m := newMachine("GPU-a"), newMonitor("7,8", "-")
	m.lib = machine
	if err := m.Run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), `NVIDIA_VISIBLE_DEVICES names "7"`) {
		t.Errorf("Run ended with %v", err)
	}
}
