package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// Who waits asks rarely what takes long to answer. An outage that was sat out is no such
// answer: after it, what comes is heard of soon.
func TestPause(t *testing.T) {
	t.Parallel()
	for took, want := range map[time.Duration]time.Duration{
		0: 500 * time.Millisecond, 200 * time.Millisecond: 2 * time.Second, time.Hour: 10 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := time.Now()
			time.Sleep(took)
			paused := time.Now()
			if err := pause(t.Context(), asked); err != nil || time.Since(paused) != want {
				t.Errorf("after an answer that took %s: a pause of %s, error %v; want %s", took, time.Since(paused), err, want)
			}
		})
	}
}

// Who waits sits outages out, which are said once each, and ends with what else goes wrong.
func TestPoll(t *testing.T) {
	t.Parallel()
	type look struct {
		takes time.Duration
		last  bool
		err   error
	}
	wrong, unread := errors.New("wrong"), errors.New("unread")
	out := look{err: queue.ErrAway}
	for name, test := range map[string]struct {
		looks []look
		err   error
		takes time.Duration
		said  int
	}{
		"the first look":            {[]look{{last: true}}, nil, 0, 0},
		"the first look fails":      {[]look{{err: wrong}}, wrong, 0, 0},
		"one that fails is shown":   {[]look{{}, {last: true, err: wrong}}, wrong, time.Second / 2, 0},
		"an outage":                 {[]look{{}, out, out, out, {}, {last: true}}, nil, 5 * time.Second / 2, 1},
		"two of them":               {[]look{out, {}, out, {last: true}}, nil, 3 * time.Second / 2, 2},
		"an outage, then an error":  {[]look{{}, out, {err: wrong}}, wrong, time.Second, 1},
		"one that takes long":       {[]look{{takes: time.Minute, err: queue.ErrAway}, {last: true}}, nil, time.Minute + time.Second/2, 1},
		"answers that take long":    {[]look{{takes: time.Second}, {last: true}}, nil, 11 * time.Second, 0},
		"an end while it looks":     {[]look{{takes: time.Hour, err: wrong}}, unread, time.Hour, 0},
		"an end while it waits":     {[]look{{takes: time.Hour - time.Second}}, unread, time.Hour, 0},
		"an end in the last look":   {[]look{{takes: time.Hour, last: true}}, nil, time.Hour, 0},
		"an end in a long outage":   {[]look{{takes: time.Hour, err: queue.ErrAway}}, unread, time.Hour, 0},
		"an end after a long one":   {[]look{{takes: time.Hour - time.Millisecond, err: queue.ErrAway}}, unread, time.Hour, 1},
		"what does not say it ends": {[]look{{takes: time.Hour}}, unread, time.Hour, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			end := time.AfterFunc(time.Hour, func() { cancel(unread) })
			defer end.Stop()
			var said strings.Builder
			begin := time.Now()
			err := poll(ctx, &said, away, func() (bool, error) {
				now := test.looks[0]
				test.looks = test.looks[1:]
				time.Sleep(now.takes)
				synctest.Wait() // for an end that is due
				return now.last, now.err
			})
			if !errors.Is(err, test.err) || err != nil && test.err == nil || time.Since(begin) != test.takes ||
				strings.Count(said.String(), "asking again until it answers\n") != test.said || len(test.looks) > 0 {
				t.Errorf("%s: error %v after %s, looks %v left, has said %q; want %v after %s", name, err, time.Since(begin), test.looks, &said, test.err, test.takes)
			}
		})
	}
}
