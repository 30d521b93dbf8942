package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/report"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

// Result is how a scenario ended.
type Result struct {
	Scenario scenario.Scenario
	Level    Level
	Skipped  string // why, if it was
	Err      error
	Length   time.Duration
	Played   bool // to its end
	Story    *report.Story
}

// Player plays scenarios on a target.
type Player struct {
	Target    targets.Target
	Kind      scenario.Target // which it is: what is for others is skipped
	Procs     int
	Artifacts string
	// Ended is called after each scenario, by one goroutine at a time.
	Ended func(Result)
}

// Play plays the scenarios of some levels. The results are in the order of the
// suite. An error means that some could not be played, and not that a runner failed.
func (p Player) Play(ctx context.Context, s *Suite, levels ...Level) ([]Result, error) {
	var results []Result
	for _, level := range levels {
		for _, one := range s.Scenarios[level] {
			results = append(results, Result{Scenario: one, Level: level})
		}
	}
	ended := make(chan Result)
	var all, telling errgroup.Group
	telling.Go(func() error {
		for r := range ended {
			if p.Ended != nil {
				p.Ended(r)
			}
		}
		return nil
	})
	all.SetLimit(max(1, p.Procs))
	for _, r := range slowFirst(results) {
		all.Go(func() error {
			begun := time.Now()
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := p.one(ctx, r); err != nil {
				return err
			}
			r.Length, r.Played = time.Since(begun), true
			ended <- *r
			return nil
		})
	}
	err := all.Wait()
	close(ended)
	return results, errors.Join(err, telling.Wait())
}

// slowFirst are the results in the order in which they are got: an API server of its
// own takes a scenario longest.
func slowFirst(results []Result) (order []*Result) {
	for _, slow := range []bool{true, false} {
		for i := range results {
			if slices.Contains(results[i].Scenario.Needs, scenario.NeedAPIServer) == slow {
				order = append(order, &results[i])
			}
		}
	}
	return order
}

// placeTime is for making a place, which may include an API server of its own.
const placeTime = 5 * time.Minute

// one plays a scenario in a place of its own.
func (p Player) one(ctx context.Context, r *Result) (err error) {
	s := r.Scenario
	if !slices.Contains(s.Targets, p.Kind) {
		r.Skipped = fmt.Sprintf("it is for the targets %v", s.Targets)
		return nil
	}
	dir := report.Evidence(p.Artifacts, s.Area, s.Name)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	making, cancel := context.WithTimeout(ctx, engine.Stretch(placeTime))
	defer cancel()
	made, err := p.Target.Isolate(making, targets.Isolation{Name: s.Name, Needs: s.Needs, Permissions: s.Permissions, NodeMaps: engine.NodeMaps(s), Evidence: dir})
	if cannot := targets.Cannot(""); errors.As(err, &cannot) {
		r.Skipped = cannot.Error()
		return nil
	}
	if err != nil {
		return err
	}
	// The place goes whatever happens to ctx.
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), engine.Stretch(time.Minute))
		defer cancel()
		err = errors.Join(err, made.Close(closing))
		if r.Err == nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	record := history.New()
	r.Err = engine.Run(ctx, newEnv(made), s, record)
	r.Story = report.TellStory(record.Entries())
	if r.Err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	collecting, cancel := context.WithTimeout(ctx, engine.Stretch(time.Minute))
	defer cancel()
	if err := errors.Join(made.Collect(collecting), os.MkdirAll(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "timeline.txt"), []byte(engine.Timeline(record)), 0o644)); err != nil {
		r.Err = fmt.Errorf("%w\nevidence incomplete: %w", r.Err, err)
	}
	return nil
}
