package scheduler

import (
	"context"
	"errors"
	"fmt"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// sickGPU is the cause of an attempt's end: a sentence about a GPU.
type sickGPU string

func (s sickGPU) Error() string { return string(s) }

// blame says that the machine failed, not the task, where a sick GPU ended the
// attempt, or it failed by itself on one: a process often notices before the
// driver tells. And it says that the owner ended it, where that is so.
func (s *Scheduler) blame(ctx context.Context, a Attempt, r api.Result) api.Result {
	switch r.Outcome {
	case api.Interrupted:
		switch why := context.Cause(a.Terminate); {
		case errors.As(why, new(sickGPU)):
			r.Outcome = api.MachineFailed
		case errors.Is(why, queue.ErrCancelled):
			r.Outcome = api.Cancelled
		}
	case api.Failed, api.TimedOut:
		if len(a.GPUs) == 0 {
			break
		}
		sick := s.GPUs.Sick(a.GPUs)
		if sick == "" && s.Check != nil {
			sick = s.Check(ctx, a.GPUs)
		}
		if sick != "" {
			r.Outcome, r.Reason = api.MachineFailed, fmt.Sprintf("%s (%s)", sick, r.Why())
		}
	}
	return r
}
