package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
)

const nothing = `{command: "true"}`

// BenchmarkTasks measures how many tasks that do nothing end in a second, from the
// first end to the last. All of them wait before the runner starts.
func BenchmarkTasks(b *testing.B) {
	for _, slots := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("spool/slots=%d", slots), func(b *testing.B) { runTasks(b, "--spool="+kept(b), slots, 0) })
		b.Run(fmt.Sprintf("tmpfs/slots=%d", slots), func(b *testing.B) { runTasks(b, "--spool="+inMemory(b), slots, 0) })
	}
	for _, waiting := range []int{1_000, 20_000, 100_000} {
		b.Run(fmt.Sprintf("spool/waiting=%d", waiting), func(b *testing.B) { runTasks(b, "--spool="+kept(b), 4, few(waiting)) })
	}
	server, err := pgserver.Start()
	check(b, err)
	defer server.Close()
	for _, fsync := range []string{"on", "off"} {
		check(b, server.Exec(b.Context(), "postgres", "alter system set fsync = "+fsync))
		check(b, server.Exec(b.Context(), "postgres", "select pg_reload_conf()"))
		for _, waiting := range []int{0, 100_000} {
			b.Run(fmt.Sprintf("postgres/fsync=%s/waiting=%d", fsync, waiting), func(b *testing.B) {
				url, err := server.Database(b.Context(), fmt.Sprint("tasks", time.Now().UnixNano()))
				check(b, err)
				run(b, nil, "", program, "queue", "init", "--queue="+url)
				runTasks(b, "--queue="+url, 4, few(waiting))
			})
		}
	}
}

// runTasks has a runner run some of the tasks that wait.
func runTasks(b *testing.B, queue string, slots, waiting int) {
	tasks := few(400)
	submit(b, queue, tasks+waiting, nothing)
	runner := serve(b, nil, queue, fmt.Sprintf("--slots=%d", slots))
	ends := runner.await(b, tasks, "task finished")
	runner.end(b)
	b.ReportMetric(float64(tasks-1)/ends[tasks-1].Sub(ends[0]).Seconds(), "tasks/s")
}

// inMemory is a directory without a disk.
func inMemory(b *testing.B) string {
	dir, err := os.MkdirTemp("/dev/shm", "bench-")
	check(b, err)
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// BenchmarkPeer measures what runs the same without a queue that survives anything.
func BenchmarkPeer(b *testing.B) {
	tasks := few(400)
	many := strings.Repeat("x\n", tasks)
	for _, slots := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("xargs/slots=%d", slots), func(b *testing.B) {
			perSecond(b, tasks, func() { run(b, nil, many, "xargs", "-n1", fmt.Sprintf("-P%d", slots), "true") })
		})
	}
	b.Run("parallel/slots=4", func(b *testing.B) {
		perSecond(b, tasks, func() { run(b, nil, many, "parallel", "--will-cite", "-j4", "true") })
	})
	b.Run("tsp/slots=4", func(b *testing.B) {
		dir := kept(b)
		env := []string{"TS_SOCKET=" + filepath.Join(dir, "socket"), "TS_SLOTS=4", "TMPDIR=" + dir}
		defer run(b, env, "", "tsp", "-K")
		perSecond(b, tasks, func() {
			for range tasks {
				run(b, env, "", "tsp", "-n", "true")
			}
			for strings.Contains(run(b, env, "", "tsp"), "running") {
				run(b, env, "", "tsp", "-w")
			}
		})
	})
}

func perSecond(b *testing.B, things int, do func()) {
	begin := time.Now()
	do()
	b.ReportMetric(float64(things)/time.Since(begin).Seconds(), "tasks/s")
}

// run runs a program to its end and returns what it prints.
func run(b *testing.B, env []string, stdin string, command ...string) string {
	b.Helper()
	cmd := exec.Command(command[0], command[1:]...) // without a context, for some are run in a Cleanup
	var errors bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stderr = append(os.Environ(), env...), strings.NewReader(stdin), &errors
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("%s: %v: %s", command[0], err, &errors)
	}
	return string(out)
}

// BenchmarkSubmit puts many tasks into a spool with one command.
func BenchmarkSubmit(b *testing.B) {
	spool := "--spool=" + kept(b)
	begin := time.Now()
	submit(b, spool, few(100_000), nothing)
	b.ReportMetric(time.Since(begin).Seconds(), "s")
}

// BenchmarkFsync is one file that is on the disk, and in its directory.
func BenchmarkFsync(b *testing.B) {
	dir, err := os.Open(kept(b))
	check(b, err)
	defer dir.Close()
	begin, files := time.Now(), few(300)
	for n := range files {
		file, err := os.Create(filepath.Join(dir.Name(), fmt.Sprint(n)))
		check(b, err)
		_, err = file.WriteString(nothing)
		check(b, err)
		check(b, file.Sync())
		check(b, file.Close())
		check(b, dir.Sync())
	}
	b.ReportMetric(milliseconds(time.Since(begin))/float64(files), "ms")
}

// BenchmarkSyncs counts how often the runner waits for the disk for each task.
func BenchmarkSyncs(b *testing.B) {
	tasks := few(100)
	count := func(tasks int) int {
		spool, trace := "--spool="+kept(b), filepath.Join(kept(b), "trace")
		submit(b, spool, max(1, tasks), nothing)
		runner := serve(b, []string{"strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,syncfs,sync_file_range", "-e", "signal=none", "-o", trace}, spool, "--slots=1", fmt.Sprintf("--max-tasks=%d", tasks))
		runner.await(b, tasks, "task finished")
		runner.end(b)
		text, err := os.ReadFile(trace)
		check(b, err)
		return bytes.Count(text, []byte("sync")) - bytes.Count(text, []byte("resumed>"))
	}
	b.ReportMetric(float64(count(tasks)-count(1))/float64(tasks-1), "syncs/task")
}

// BenchmarkGap is the time from one short task to the next, where one runs at a time; also
// in a program that does only what cannot be avoided.
func BenchmarkGap(b *testing.B) {
	tasks := few(200)
	gaps := func(b *testing.B, file string) {
		at := stamps(b, file)
		var all []time.Duration
		for i := range at[1:] {
			all = append(all, at[i+1].Sub(at[i]))
		}
		quantiles(b, "", all)
	}
	b.Run("runner", func(b *testing.B) {
		file, spool := filepath.Join(kept(b), "stamps"), "--spool="+kept(b)
		submit(b, spool, tasks, fmt.Sprintf(`{command: bash, args: ["-c", %q]}`, stamp(file)))
		runner := serve(b, nil, spool, "--slots=1")
		runner.await(b, tasks, "task finished")
		runner.end(b)
		gaps(b, file)
	})
	b.Run("xargs", func(b *testing.B) {
		file := filepath.Join(kept(b), "stamps")
		run(b, nil, strings.Repeat("x\n", tasks), "xargs", "-n1", "bash", "-c", stamp(file))
		gaps(b, file)
	})
	b.Run("least", func(b *testing.B) {
		file := filepath.Join(kept(b), "stamps")
		program, err := exec.LookPath("bash")
		check(b, err)
		floor(b, tasks, 1, plainSupervisor(b), strconv.Itoa(greedier), program, "-c", stamp(file))
		gaps(b, file)
	})
}
