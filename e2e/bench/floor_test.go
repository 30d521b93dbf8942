package main_test

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkTrue measures the processor time that a task costs which does nothing: that of
// the runner, of its supervisor and of the program itself, without that of a runner that
// has no tasks. What cannot be avoided is measured in turn with it, as the machine may be
// busy with others; each figure is the median.
func BenchmarkTrue(b *testing.B) {
	program, err := exec.LookPath("true")
	check(b, err)
	supervisor := plainSupervisor(b)
	tasks := few(100)
	all := map[string][]float64{}
	add := func(unit string, used time.Duration) {
		all[unit] = append(all[unit], milliseconds(used)/float64(tasks))
	}
	for range few(5) {
		add("cpu-ms/task", runTrue(b, tasks+1)-runTrue(b, 1))
		least, _ := floor(b, tasks, 1, program)
		add("least-cpu-ms/task", least)
		supervised, _ := floor(b, tasks, 1, supervisor, strconv.Itoa(greedier), program)
		add("supervised-cpu-ms/task", supervised)
	}
	for unit, figures := range all {
		slices.Sort(figures)
		b.ReportMetric(figures[len(figures)/2], unit)
	}
}

// runTrue is the processor time of a runner with some tasks, all its life.
func runTrue(b *testing.B, tasks int) time.Duration {
	queue := "--spool=" + kept(b)
	submit(b, queue, tasks, nothing)
	runner := serve(b, nil, queue, "--slots=1", fmt.Sprintf("--max-tasks=%d", tasks))
	runner.await(b, tasks, "task finished")
	runner.end(b)
	return runner.ProcessState.UserTime() + runner.ProcessState.SystemTime()
}

// BenchmarkFloor measures how many tasks a second a program runs that does only what
// cannot be avoided.
func BenchmarkFloor(b *testing.B) {
	program, err := exec.LookPath("true")
	check(b, err)
	b.Run("slots=4", func(b *testing.B) {
		_, took := floor(b, few(400), 4, program)
		b.ReportMetric(float64(few(400))/took.Seconds(), "tasks/s")
	})
}

// greedier is how much rather the kernel ends a task than its runner (R16).
const greedier = 200

// plainSupervisor compiles testdata/supervisor.c as the runner's own supervisor is compiled.
func plainSupervisor(b *testing.B) string {
	compiler, err := exec.LookPath("musl-gcc")
	if err != nil {
		compiler = "gcc"
	}
	program := filepath.Join(b.TempDir(), "supervisor")
	run(b, nil, "", compiler, "-std=gnu11", "-Os", "-static", "-s", "-Wl,-z,noseparate-code,-z,norelro",
		"-o", program, "testdata/supervisor.c")
	return program
}

// floor does what no runner with a queue in a directory could do without, in the plainest
// way, and returns the processor time that it used and the time that it took: a document
// that is moved as the task is taken and begun, and read; the program's start, with files
// for its output; a result that is on the disk; and the document's end. What it syncs is
// what the runner syncs, for the same promises. Where one runs at a time Go has one
// processor, as in the runner.
//
// It lets the program go, and forgets what that may leave. The supervised one has a process
// for each attempt that outlives the runner; see testdata/supervisor.c.
func floor(b *testing.B, tasks, slots int, command ...string) (used, took time.Duration) {
	dir := kept(b)
	var names []string
	for i := range tasks {
		names = append(names, filepath.Join(dir, strconv.Itoa(i)))
		check(b, os.WriteFile(names[i], []byte(nothing), 0o644))
		check(b, os.Mkdir(names[i]+".results", 0o755)) // a submit makes it
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(min(slots, runtime.NumCPU())))
	begin, before := time.Now(), processorTime(b)
	var all sync.WaitGroup
	for i, some := range slices.Collect(slices.Chunk(names, (tasks+slots-1)/slots)) {
		all.Go(func() {
			runtime.LockOSThread() // whose end a supervisor would take for that of the runner
			claim, err := os.Create(filepath.Join(dir, fmt.Sprint("claim", i)))
			if err != nil {
				b.Error(err)
				return
			}
			defer claim.Close()
			for _, name := range some {
				if err := plainly(dir, name, claim, command); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	return processorTime(b) - before, time.Since(begin)
}

func plainly(dir, name string, claim *os.File, command []string) error {
	var document [1 << 10]byte
	output := make([]uintptr, 2)
	return inTurn(
		func() error { return unix.Rename(name, name+".taken") },
		withFile(name+".taken", unix.O_RDONLY, func(f int) error {
			_, err := unix.Read(f, document[:])
			return err
		}),
		func() error { return unix.Rename(name+".taken", name+".begun") },
		fsync(dir),
		func() error { return makeOutput(name, output) },
		func() error {
			var status syscall.WaitStatus
			files := append([]uintptr{0}, append(output, claim.Fd())...)
			pid, err := syscall.ForkExec(command[0], command, &syscall.ProcAttr{Env: runnerEnv(dir), Files: files})
			if err == nil {
				_, err = syscall.Wait4(pid, &status, 0, nil)
			}
			if err == nil && status != 0 {
				err = fmt.Errorf("%s failed: wait status %#x", command[0], status)
			}
			return err
		},
		func() error { return unix.Close(int(output[0])) },
		func() error { return unix.Close(int(output[1])) },
		func() error { return settle(name) },
	)
}

// makeOutput makes what is kept of a task, with its open output.
func makeOutput(name string, output []uintptr) error {
	err := unix.Mkdir(name+".made", 0o755)
	for i, file := range []string{"stdout", "stderr"} {
		f, problem := unix.Open(filepath.Join(name+".made", file), create, 0o644)
		err = errors.Join(err, problem)
		output[i] = uintptr(f)
	}
	return err
}

const create = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_CLOEXEC

// settle puts the result of a task that has ended on the disk, and then removes it.
func settle(name string) error {
	made, place := name+".made", name+".results"
	return inTurn(
		withFile(filepath.Join(made, "result.json"), create, func(f int) error {
			_, err := unix.Write(f, []byte(`{"outcome":"Succeeded","exit_code":0}`))
			return errors.Join(err, unix.Fsync(f))
		}),
		fsync(made),
		func() error { return unix.Rename(made, filepath.Join(place, "1")) },
		fsync(place),
		func() error { return unix.Unlink(name + ".begun") },
	)
}

func fsync(path string) func() error { return withFile(path, unix.O_RDONLY, unix.Fsync) }

// withFile opens a file as package os does not: that asks five times more of the kernel.
func withFile(path string, flags int, do func(f int) error) func() error {
	return func() error {
		f, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
		if err == nil {
			err = errors.Join(do(f), unix.Close(f))
		}
		return err
	}
}

func inTurn(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// endPlainly is what cannot be avoided from the end of a task until somebody who listens
// knows of it.
func endPlainly(b *testing.B) time.Duration {
	dir, ends := kept(b), make(chan string)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		fmt.Fprintln(w, <-ends)
	}))
	defer web.Close()
	stream, err := http.Get(web.URL)
	check(b, err)
	defer stream.Body.Close()
	name, ended := filepath.Join(dir, "task"), filepath.Join(dir, "ended")
	check(b, os.WriteFile(name+".begun", []byte("{}"), 0o644))
	check(b, os.Mkdir(name+".results", 0o755))
	run(b, nil, "", "bash", "-c", stamp(ended))
	check(b, makeOutput(name, make([]uintptr, 2)))
	check(b, settle(name))
	ends <- "suspended"
	_, err = bufio.NewReader(stream.Body).ReadString('\n')
	check(b, err)
	now := time.Now()
	return now.Sub(stamps(b, ended)[0])
}

// processorTime is that of this process and of the children that it has waited for.
func processorTime(b *testing.B) (total time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		check(b, syscall.Getrusage(who, &u))
		total += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return total
}
