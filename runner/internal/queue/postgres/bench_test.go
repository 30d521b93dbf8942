package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/postgres"
)

// What a task costs, by how many others wait: most of them of a class that this
// runner does not serve.
func BenchmarkTask(b *testing.B) {
	for _, waiting := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) {
			url, err := server.Database(b.Context(), fmt.Sprintf("bench%d", databases.Add(1)))
			if err != nil {
				b.Fatal(err)
			}
			if _, _, err := postgres.Init(b.Context(), url); err != nil {
				b.Fatal(err)
			}
			q, err := postgres.Open(url, postgres.Options{Runner: "runner", Work: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer q.Close()
			tasks := make([]*api.Task, waiting)
			for i := range tasks {
				tasks[i] = &api.Task{Command: "true", Resources: api.Resources{GPUs: i % 8}}
			}
			begin := time.Now()
			if _, err := q.Submit(b.Context(), tasks); err != nil {
				b.Fatal(err)
			}
			submit := float64(time.Since(begin).Microseconds()) / float64(waiting)
			for b.Loop() {
				d, err := q.Fetch(b.Context(), func(class api.Resources) bool { return class.GPUs == 7 })
				if err != nil {
					b.Fatal(err)
				}
				if err := d.Release(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(submit, "µs/submit") // the loop forgets what was reported before
		})
	}
}
