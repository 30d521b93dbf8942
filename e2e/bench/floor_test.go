package main_test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BenchmarkTrue measures the processor time that a task costs which does nothing:
// that of the runner, of its supervisor and of the program itself, without that of
// a runner that has no tasks.
func BenchmarkTrue(b *testing.B) {
	tasks := few(200)
	used := func(tasks int) time.Duration {
		queue := "--spool=" + b.TempDir()
		submit(b, queue, max(1, tasks), nothing)
		runner := serve(b, nil, queue, fmt.Sprintf("--max-tasks=%d", max(1, tasks)))
		runner.await(b, tasks, "task finished")
		runner.end(b)
		return runner.ProcessState.UserTime() + runner.ProcessState.SystemTime()
	}
	b.ReportMetric(milliseconds(used(tasks+1)-used(1))/float64(tasks), "cpu-ms/task")
}

// BenchmarkFloor measures what no runner with a queue in a directory could do without,
// and in the plainest way: a file that is moved as the task is taken and begun, the
// program's start, a result that is on the disk, and the file's end. What it syncs is
// what the runner syncs, for the same promises.
//
// It lets the program go, and forgets what that may leave. The supervised one has a
// process for each attempt that outlives the runner, of which the program is a child, and
// ends once no descendant of it lives: the kernel has no other way to know that.
func BenchmarkFloor(b *testing.B) {
	program, err := exec.LookPath("true")
	check(b, err)
	for _, slots := range []int{1, 4} {
		b.Run(fmt.Sprintf("slots=%d", slots), func(b *testing.B) { floor(b, few(400), slots, program) })
	}
	b.Run("supervised", func(b *testing.B) { floor(b, few(400), 1, plainSupervisor(b), program) })
}

// plainSupervisor compiles testdata/supervisor.c as the runner's own supervisor is compiled.
func plainSupervisor(b *testing.B) string {
	compiler, err := exec.LookPath("musl-gcc")
	if err != nil {
		compiler = "gcc"
	}
	program := filepath.Join(b.TempDir(), "supervisor")
	run(b, nil, "", compiler, "-std=gnu11", "-Os", "-static", "-s", "-o", program, "testdata/supervisor.c")
	return program
}

func floor(b *testing.B, tasks, slots int, command ...string) {
	dir := b.TempDir()
	var names []string
	for i := range tasks {
		names = append(names, filepath.Join(dir, strconv.Itoa(i)))
		check(b, os.WriteFile(names[i], []byte("{}"), 0o644))
		check(b, os.Mkdir(names[i]+".results", 0o755)) // a submit makes it
	}
	begin, before := time.Now(), processorTime(b)
	var all sync.WaitGroup
	for some := range slices.Chunk(names, (tasks+slots-1)/slots) {
		all.Go(func() {
			for _, name := range some {
				if err := plainly(dir, name, command); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(tasks)/time.Since(begin).Seconds(), "tasks/s")
	b.ReportMetric(milliseconds(processorTime(b)-before)/float64(tasks), "cpu-ms/task")
}

func plainly(dir, name string, command []string) error {
	return inTurn(
		func() error { return os.Rename(name, name+".taken") },
		func() error { return os.Rename(name+".taken", name+".begun") },
		fsync(dir),
		func() error {
			var status syscall.WaitStatus
			pid, err := syscall.ForkExec(command[0], command, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}})
			if err == nil {
				_, err = syscall.Wait4(pid, &status, 0, nil)
			}
			if err == nil && status != 0 {
				err = fmt.Errorf("%s failed: wait status %#x", command[0], status)
			}
			return err
		},
		func() error { return settle(name) },
	)
}

// settle puts the result of a task that has ended on the disk, and then removes it.
func settle(name string) error {
	made, place := name+".made", name+".results"
	write := func(file string) func() error {
		return func() error { return os.WriteFile(filepath.Join(made, file), nil, 0o644) }
	}
	return inTurn(
		func() error { return os.Mkdir(made, 0o755) },
		write("stdout"), write("stderr"), write("result.json"),
		fsync(filepath.Join(made, "result.json")), fsync(made),
		func() error { return os.Rename(made, filepath.Join(place, "1")) },
		fsync(place),
		func() error { return os.Remove(name + ".begun") },
	)
}

func fsync(path string) func() error {
	return func() error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
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
	dir, ends := b.TempDir(), make(chan string)
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
