package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkMemory measures what a runner with a cluster has of memory: at rest, with
// many tasks that run, and after many that have ended.
func BenchmarkMemory(b *testing.B) {
	env := isolate(b)
	globalMap(b, env)
	steered := func(b *testing.B, queue string, slots int) *serving {
		return serve(b, nil, queue, fmt.Sprintf("--slots=%d", slots), "--kubeconfig="+kubeconfig(env))
	}
	for _, tasks := range []int{0, 64} {
		b.Run(fmt.Sprintf("running=%d", tasks), func(b *testing.B) {
			queue := "--spool=" + kept(b)
			runner := steered(b, queue, 64)
			runner.await(b, 1, "to=Running")
			if tasks > 0 {
				submit(b, queue, tasks, `{command: sleep, args: [infinity]}`)
				runner.await(b, tasks, "task started")
			}
			time.Sleep(time.Second) // at rest: whatever it does once, it has done
			memory(b, runner)
			supervisors(b, runner, tasks)
			check(b, runner.Process.Kill())
			_ = runner.Wait()
		})
	}
	// Without a disk, so that it does not take all day.
	for _, tasks := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("after=%d", tasks), func(b *testing.B) {
			queue := "--spool=" + inMemory(b)
			submit(b, queue, few(tasks), nothing)
			runner := steered(b, queue, 16)
			runner.await(b, few(tasks), "task finished")
			time.Sleep(time.Second)
			memory(b, runner)
			runner.end(b)
		})
	}
}

func memory(b *testing.B, runner *serving) {
	b.Helper()
	status := statusOf(b, fmt.Sprint(runner.Process.Pid))
	for _, name := range []string{"RssAnon", "VmRSS"} {
		b.ReportMetric(status[name], name+"-MiB")
	}
}

// statusOf is what the kernel says of the memory of a process, in MiB.
func statusOf(b *testing.B, pid string) map[string]float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/" + pid + "/status")
	check(b, err)
	all := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64); err == nil {
			all[name] = kib / 1024
		}
	}
	return all
}

// supervisors measures what runs beside the runner for a task that runs.
func supervisors(b *testing.B, runner *serving, tasks int) {
	b.Helper()
	if tasks == 0 {
		return
	}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", runner.Process.Pid))
	check(b, err)
	total, found := 0.0, 0
	for _, list := range lists {
		pids, err := os.ReadFile(list)
		check(b, err)
		for _, pid := range strings.Fields(string(pids)) {
			total, found = total+statusOf(b, pid)["VmRSS"], found+1
		}
	}
	if found != tasks {
		b.Fatalf("there are %d supervisors for %d tasks", found, tasks)
	}
	b.ReportMetric(total/float64(tasks), "MiB/task")
}

// BenchmarkSize measures the program and the image as they ship, and a program that
// only links what a runner has to have.
func BenchmarkSize(b *testing.B) {
	size := func(path string) float64 {
		info, err := os.Stat(path)
		check(b, err)
		return float64(info.Size()) / (1 << 20)
	}
	image := filepath.Join(b.TempDir(), "image.tar")
	b.Run("runner", func(b *testing.B) {
		b.ReportMetric(size(program), "MiB")
	})
	b.Run("least", func(b *testing.B) {
		b.ReportMetric(size(buildLeast(b)), "MiB")
	})
	b.Run("image", func(b *testing.B) {
		run(b, nil, "", "go", "run", "../../runner/deploy/image", "--name=bench:bench", "--add="+program+"=/usr/local/bin/runner", "--output="+image)
		b.ReportMetric(size(image), "MiB")
	})
}

func buildLeast(b *testing.B) (path string) {
	b.Helper()
	path = filepath.Join(b.TempDir(), "least")
	run(b, nil, "", "go", "build", "-trimpath", "-ldflags=-s -w -extldflags=-Wl,-z,lazy", "-o", path, "./least")
	return path
}
