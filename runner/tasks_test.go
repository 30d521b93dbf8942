package main

import (
	"context"
	"errors"
	"testing"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// goesAway is a queue that answers once.
type goesAway struct {
	connection
	asked bool
}

func (q *goesAway) List(context.Context, ...string) ([]api.TaskStatus, error) {
	if q.asked {
		return nil, queue.ErrAway
	}
	q.asked = true
	return []api.TaskStatus{{ID: "a"}}, nil
}

func (q *goesAway) Offers(context.Context) ([]api.Offer, error) { return nil, queue.ErrAway }

// A queue that goes away between two questions has not lost its tasks.
func TestTasksOfAQueueThatGoesAway(t *testing.T) {
	tasks := &Tasks{Printing: Printing{Output: "json"}}
	if views, err := tasks.views(t.Context(), &goesAway{}); !errors.Is(err, queue.ErrAway) {
		t.Errorf("tasks are %v, error %v", views, err)
	}
}
