package spool_test

import (
	"context"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// What comes wakes a fetch that waits, without the next rescan.
func TestWhatWakesFetch(t *testing.T) {
	for name, come := range map[string]func(t *testing.T, dir string, s *spool.Spool) func(){
		"a submit": func(t *testing.T, _ string, s *spool.Spool) func() {
			return func() { submit(t, s, api.Task{ID: "wanted"}) }
		},
		"a submit to others": func(t *testing.T, _ string, s *spool.Spool) func() {
			submit(t, s, api.Task{ID: "before"}) // whose directory stays, so that none is made
			if err := fetch(t, s, "before").Ack(); err != nil {
				t.Fatal(err)
			}
			return func() { submit(t, s, api.Task{ID: "wanted"}) }
		},
		"a task of a dead runner": func(t *testing.T, dir string, s *spool.Spool) func() {
			crashed := open(t, dir, "crashed")
			submit(t, s, api.Task{ID: "wanted"})
			fetch(t, crashed, "wanted")
			return func() {
				crashed.Crash()
				open(t, dir, "other")
			}
		},
		"a release": func(t *testing.T, dir string, s *spool.Spool) func() {
			other := open(t, dir, "other")
			submit(t, s, api.Task{ID: "wanted"})
			d := fetch(t, other, "wanted")
			return func() {
				if err := d.Release(); err != nil {
					t.Error(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := spool.Open(dir, spool.Options{Runner: "r", Rescan: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			comes := come(t, dir, s)
			submit(t, s, api.Task{ID: "refused", Resources: api.Resources{GPUs: 1}})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			looked, fetched := fetching(ctx, s, func(class api.Resources) bool { return class.GPUs == 0 })
			<-looked // before it knows that it has to wait
			<-looked // and again when it would be woken
			comes()
			if err := <-fetched; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCloseEndsFetch(t *testing.T) {
	s := open(t, t.TempDir(), "r")
	submit(t, s, api.Task{ID: "refused"})
	looked, ended := fetching(t.Context(), s, func(api.Resources) bool { return false })
	<-looked
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("fetch gave no error")
	}
	if _, err := s.Fetch(t.Context(), anyClass); err == nil {
		t.Error("fetch after close gave no error")
	}
}

// fetching fetches, and tells of the looks and of the end.
func fetching(ctx context.Context, s *spool.Spool, serves func(api.Resources) bool) (<-chan struct{}, <-chan error) {
	looked, ended := make(chan struct{}, 10), make(chan error)
	go func() {
		_, err := s.Fetch(ctx, func(class api.Resources) bool {
			select {
			case looked <- struct{}{}:
			default: // it is known that it looks
			}
			return serves(class)
		})
		ended <- err
	}()
	return looked, ended
}
