package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
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
		least += floor(b, tasks, 1)
	}
	each := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(b.N*tasks) }
	b.ReportMetric(each(all), "cpu-ms/task")
	b.ReportMetric(each(least), "floor-ms/task")
	b.ReportMetric(each(all)/each(least), "ratio")
}

// BenchmarkThroughput measures how many tasks a second a runner with four slots takes
// from a queue that keeps them, beside what starts as many programs and keeps nothing,
// and beside the plainest program that keeps them.
func BenchmarkThroughput(b *testing.B) {
	const tasks = 500
	var ours, theirs, least time.Duration
	for b.Loop() {
		all := play(b, tasks, 4)
		ours += all[tasks-1].Finished.Sub(all[0].Started)
		xargs := exec.Command("xargs", "-P4", "-n1", "true")
		xargs.Stdin = strings.NewReader(strings.Repeat("x\n", tasks))
		begin := time.Now()
		check(b, xargs.Run())
		theirs += time.Since(begin)
		begin = time.Now()
		floor(b, tasks, 4)
		least += time.Since(begin)
	}
	rate := func(d time.Duration) float64 { return float64(b.N*tasks) / d.Seconds() }
	b.ReportMetric(rate(ours), "tasks/s")
	b.ReportMetric(rate(theirs), "xargs/s")
	b.ReportMetric(rate(least), "floor/s")
	b.ReportMetric(rate(ours)/rate(theirs), "ratio")
}

// BenchmarkGap measures how long a slot is empty between two tasks that wait.
func BenchmarkGap(b *testing.B) {
	const tasks = 200
	var gaps []time.Duration
	for b.Loop() {
		all := play(b, tasks, 1)
		for i := range tasks - 1 {
			gaps = append(gaps, all[i+1].Started.Sub(all[i].Finished))
		}
	}
	slices.Sort(gaps)
	b.ReportMetric(gaps[len(gaps)/2].Seconds()*1000, "median-ms")
	b.ReportMetric(gaps[len(gaps)*99/100].Seconds()*1000, "p99-ms")
}

// BenchmarkExit measures the time from the end of the last task to that of a runner
// which drains for a signal.
func BenchmarkExit(b *testing.B) {
	var all []time.Duration
	for b.Loop() {
		p, log := start(b)
		drain(log)
		p.submit("{id: last, command: sleep, args: ['1']}")
		p.until("/statusz", `"running": 1`)
		p.send(syscall.SIGTERM)
		<-p.ended
		end := time.Now()
		all = append(all, end.Sub(results(b, p.spool)[0].Finished))
	}
	slices.Sort(all)
	b.ReportMetric(all[len(all)/2].Seconds()*1000, "median-ms")
}

// BenchmarkMemory measures what a runner takes that has nothing to do, and after tasks.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		p, log := start(b, "env", "STUDIOML_SLOTS=4")
		await := finished(log)
		report := func(when string) {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
			check(b, err)
			for _, name := range []string{"RssAnon", "VmRSS"} {
				var kib float64
				_, line, _ := strings.Cut(string(text), name+":")
				_, err := fmt.Sscan(line, &kib)
				check(b, err)
				b.ReportMetric(kib/1024, name+"-MB-"+when)
			}
		}
		p.until("/statusz", `"Running"`)
		report("idle")
		for _, tasks := range []int{1000, 10_000} {
			p.submit(strings.Repeat(document, tasks))
			await(tasks)
			report(fmt.Sprint(tasks))
		}
	}
}

const document = "{command: \"true\"}\n---\n"

// play lets a runner with so many slots run so many tasks that wait, and returns their
// results in the order of their starts.
func play(b *testing.B, tasks, slots int) []*api.Result {
	dir := b.TempDir()
	spool := filepath.Join(dir, "spool")
	(&process{TB: b, spool: spool}).submit(strings.Repeat(document, tasks))
	p, log := startIn(b, dir, spool, "runner", "serve", "--spool", spool, "--slots", strconv.Itoa(slots), "--max-tasks", strconv.Itoa(tasks))
	drain(log)
	<-p.ended
	return results(b, spool)
}

// results are those in a spool, in the order of the starts.
func results(b *testing.B, spool string) (all []*api.Result) {
	paths, err := filepath.Glob(filepath.Join(spool, "results", "*", "*", "result.json"))
	check(b, err)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		check(b, err)
		r := new(api.Result)
		check(b, json.Unmarshal(text, r))
		all = append(all, r)
	}
	slices.SortFunc(all, func(x, y *api.Result) int { return x.Started.Compare(y.Started) })
	return all
}

// processorTime is that of a runner and of its tasks, from its start to its end.
func processorTime(b *testing.B, tasks int) time.Duration {
	p, log := start(b)
	await := finished(log)
	if tasks > 0 {
		p.submit(strings.Repeat(document, tasks))
	}
	await(tasks)
	p.send(syscall.SIGTERM)
	p.wantExit(143, 10*time.Second)
	return p.ProcessState.UserTime() + p.ProcessState.SystemTime()
}

// finished reads a log to its end; what it returns waits for so many tasks to be done.
func finished(log io.Reader) (await func(tasks int)) {
	ends := make(chan struct{}, 1<<16)
	go func() {
		defer close(ends)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if strings.Contains(lines.Text(), "task finished") {
				ends <- struct{}{}
			}
		}
	}()
	return func(tasks int) {
		for range tasks {
			<-ends
		}
	}
}

// floor is the processor time for what no runner with a queue in a directory could
// do without, and in the plainest way: a file that is moved as the task is taken and
// begun, the program's start, a result that is on the disk, and the file's end. What
// it syncs is what the runner syncs, for the same promises.
func floor(b *testing.B, tasks, slots int) time.Duration {
	program, err := exec.LookPath("true")
	check(b, err)
	dir := b.TempDir()
	var names []string
	for i := range tasks {
		names = append(names, filepath.Join(dir, strconv.Itoa(i)))
		check(b, os.WriteFile(names[i], []byte("{}"), 0o644))
		check(b, os.Mkdir(names[i]+".results", 0o755)) // a submit makes it
	}
	before := usage(b)
	var all sync.WaitGroup
	for some := range slices.Chunk(names, (tasks+slots-1)/slots) {
		all.Go(func() {
			for _, name := range some {
				plainly(b, dir, name, program)
			}
		})
	}
	all.Wait()
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
	made, place := name+".made", name+".results"
	check(b, os.Mkdir(made, 0o755))
	for _, file := range []string{"stdout", "stderr", "result.json"} {
		check(b, os.WriteFile(filepath.Join(made, file), nil, 0o644))
	}
	check(b, fsync(filepath.Join(made, "result.json")))
	check(b, fsync(made))
	check(b, os.Rename(made, filepath.Join(place, "1")))
	check(b, fsync(place))
	check(b, os.Remove(name+".begun"))
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
