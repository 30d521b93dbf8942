package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkTrue measures the processor time that a task costs which does nothing:
// that of the runner, of its supervisor and of the program itself, without that of
// a runner that has no tasks. Neighbours on the machine make every program dearer,
// so the least that any runner could do is measured beside it.
func BenchmarkTrue(b *testing.B) {
	const tasks = 200
	var all, least time.Duration
	for b.Loop() {
		all += processorTime(b, tasks) - processorTime(b, 0)
		least += floor(b, tasks)
	}
	each := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(b.N*tasks) }
	b.ReportMetric(each(all), "cpu-ms/task")
	b.ReportMetric(each(least), "floor-ms/task")
	b.ReportMetric(each(all)/each(least), "ratio")
}

// processorTime is that of a runner and of its tasks, from its start to its end.
func processorTime(b *testing.B, tasks int) time.Duration {
	p, log := start(b)
	ended := make(chan struct{})
	go func() {
		lines, left := bufio.NewScanner(log), tasks
		for left > 0 && lines.Scan() {
			if strings.Contains(lines.Text(), "task finished") {
				left--
			}
		}
		close(ended)
		for lines.Scan() {
		}
	}()
	if tasks > 0 {
		p.submit(strings.Repeat("{command: \"true\"}\n---\n", tasks))
	}
	<-ended
	p.send(syscall.SIGTERM)
	p.wantExit(143, time.Minute)
	return p.ProcessState.UserTime() + p.ProcessState.SystemTime()
}

// floor is the processor time for what no runner with a queue in a directory could
// do without, and in the plainest way: a file that is moved as the task is taken,
// begun and done, a result that is on the disk, and the program's start.
func floor(b *testing.B, tasks int) time.Duration {
	program, err := exec.LookPath("true")
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	var names []string
	for i := range tasks {
		names = append(names, filepath.Join(dir, strconv.Itoa(i)))
		check(b, os.WriteFile(names[i], []byte("{}"), 0o644))
	}
	before := usage(b)
	for _, name := range names {
		plainly(b, dir, name, program)
	}
	return usage(b) - before
}

func plainly(b *testing.B, dir, name, program string) {
	check(b, os.Rename(name, name+".taken"))
	check(b, os.Rename(name+".taken", name+".begun"))
	check(b, fsync(dir))
	pid, err := syscall.ForkExec(program, []string{"true"}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}})
	check(b, err)
	_, err = syscall.Wait4(pid, nil, 0, nil)
	check(b, err)
	made, place := name+".made", name+".result"
	check(b, os.MkdirAll(filepath.Join(made, "1"), 0o755))
	for _, file := range []string{"stdout", "stderr", "result.json"} {
		check(b, os.WriteFile(filepath.Join(made, "1", file), nil, 0o644))
	}
	check(b, fsync(filepath.Join(made, "1", "result.json")))
	check(b, fsync(filepath.Join(made, "1")))
	check(b, os.Rename(made, place))
	check(b, fsync(place))
	check(b, fsync(dir))
	check(b, os.Remove(name+".begun"))
	check(b, fsync(dir))
}

func fsync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// usage is the processor time of this process and of the children that it has waited for.
func usage(b *testing.B) (total time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		check(b, syscall.Getrusage(who, &u))
		total += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return total
}
