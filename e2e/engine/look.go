package engine

import (
	"context"
	"reflect"
	"time"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// look is what the record does not have by itself and was asked for.
type look struct {
	queue        *api.QueueContents
	queueTrouble string            // why it could not be read
	answers      map[string]answer // by runner and path
}

// answer is what a runner's process said.
type answer struct {
	time time.Time
	code int
	body []byte
	err  error
}

// lookFor asks for what conditions need beyond the record.
func (p *play) lookFor(ctx context.Context, that scenario.Conditions) look {
	seen := look{answers: make(map[string]answer)}
	for subject, condition := range that {
		for name := range condition {
			switch f := factOf(name); f.from {
			case fromQueue:
				if seen.queue != nil || seen.queueTrouble != "" {
					continue
				}
				if contents, err := p.readQueue(ctx); err != nil {
					seen.queueTrouble = "the queue cannot be read: " + err.Error()
				} else {
					seen.queue = &contents
				}
			case fromProbe:
				p.ask(ctx, &seen, subject, f.path)
			}
		}
	}
	return seen
}

// cutShort says whether something did not answer.
func (l look) cutShort() bool {
	for _, a := range l.answers {
		if a.err != nil {
			return true
		}
	}
	return l.queueTrouble != ""
}

// ask asks the process of a runner that was started, once for each path.
func (p *play) ask(ctx context.Context, seen *look, runner, path string) {
	r := p.runners[runner]
	if _, asked := seen.answers[runner+path]; asked || r == nil {
		return
	}
	a := answer{time: time.Now()}
	a.code, a.body, a.err = r.Get(ctx, path)
	seen.answers[runner+path] = a
}

// readQueue reads the queue and keeps in the record what has changed.
func (p *play) readQueue(ctx context.Context) (api.QueueContents, error) {
	contents, err := p.env.Queue(ctx)
	if err != nil {
		return contents, err
	}
	changed := false
	p.record.View(func(f *history.Facts) { changed = f.Queue == nil || !reflect.DeepEqual(*f.Queue, contents) })
	if changed {
		p.record.Add(history.Entry{Queue: &contents})
	}
	return contents, nil
}
