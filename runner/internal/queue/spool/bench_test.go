package spool_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// What each step costs while so many tasks wait. cpu-µs/op is processor time, which
// says more than the clock on a machine that others use too.
func BenchmarkWaiting(b *testing.B) {
	for _, waiting := range []int{100, 20_000, 100_000} {
		there := waiting
		if testing.Short() {
			there = 10
		}
		s, err := spool.Open(b.TempDir(), spool.Options{Runner: "r"})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		submit := func(n int) error {
			tasks := make([]*api.Task, n)
			for i := range tasks {
				tasks[i] = &api.Task{Command: "true"}
			}
			_, err := s.Submit(b.Context(), tasks)
			return err
		}
		begun := time.Now()
		if err := submit(there); err != nil {
			b.Fatal(err)
		}
		b.Logf("%d tasks were submitted together in %s", waiting, time.Since(begun))
		one := func(step string, do func(d spool.Delivery, attempt int) error) {
			b.Run(fmt.Sprintf("%s/%d", step, waiting), func(b *testing.B) {
				if err := submit(b.N); err != nil { // as many wait afterwards
					b.Fatal(err)
				}
				measure(b, func() error {
					d, err := s.Fetch(b.Context(), anyClass)
					if err != nil {
						return err
					}
					n, err := d.Begin(nil)
					if err != nil {
						return err
					}
					return do(d.(spool.Delivery), n)
				})
			})
		}
		b.Run(fmt.Sprintf("submit/%d", waiting), func(b *testing.B) { measure(b, func() error { return submit(1) }) })
		one("release", func(d spool.Delivery, _ int) error { return d.Release() })
		one("remove", func(d spool.Delivery, _ int) error { return d.Ack() })
		one("finish", func(d spool.Delivery, n int) error { return finish(d, n, api.Succeeded) })
		one("retry", func(d spool.Delivery, _ int) error {
			_, err := d.Retry("test")
			return err
		})
	}
}

func measure(b *testing.B, do func() error) {
	var before, after unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &before)
	b.ResetTimer()
	for range b.N {
		if err := do(); err != nil {
			b.Fatal(err)
		}
	}
	unix.Getrusage(unix.RUSAGE_SELF, &after)
	used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(used)/1000/float64(b.N), "cpu-µs/op")
	b.ReportMetric(1000*b.Elapsed().Seconds()/float64(b.N), "ms/op")
}
