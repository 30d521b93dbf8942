package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// Status is the status command.
type Status struct {
	Address string `env:"STUDIOML_ADDRESS" placeholder:"HOST:PORT" help:"Runner to ask; default 127.0.0.1:8080 unless --spool is given."`
	Spool   string `placeholder:"DIR" help:"Queue to look into."`
	Queue   string `placeholder:"URL" help:"Queue in a PostgreSQL server to look into."`
	Output  string `short:"o" enum:"table,json" default:"table" help:"How to print: ${enum}."`
	Watch   bool   `short:"w" help:"Print the runner's status at each change, until the runner ends; as JSON it is one line each, of the same shape as one look. A runner that does not answer yet is waited for."`
}

// Validate refuses what makes no sense together. Kong calls it after parsing.
func (s *Status) Validate() error {
	if s.Watch && s.Spool+s.Queue != "" {
		return errors.New("--watch and --spool cannot be used together, nor --queue: a runner can be watched, a queue cannot")
	}
	return nil
}

const defaultAddress = "127.0.0.1:8080"

// answers are what the runner and the queue say, as JSON or as a table.
type answers struct {
	Runner *api.Status        `json:"runner,omitempty"`
	Queue  *api.QueueContents `json:"queue,omitempty"`
}

// Run asks the runner, the queue or both.
func (s *Status) Run(ctx context.Context, stdio stdio) error {
	if s.Watch {
		reading, stop := whileRead(ctx, stdio.Out)
		defer stop()
		err := watch(reading, cmp.Or(s.Address, defaultAddress), func(status *api.Status) error {
			if s.Output == "json" {
				return json.NewEncoder(stdio.Out).Encode(answers{Runner: status})
			}
			return errors.Join(answers{Runner: status}.print(stdio.Out), newline(stdio.Out))
		})
		if errors.Is(context.Cause(reading), errUnread) {
			return nil // who reads has seen enough
		}
		return err
	}
	var r answers
	if s.Spool+s.Queue != "" {
		err := (&Place{s.Spool, s.Queue}).look(func(store queue.Store) (err error) {
			r.Queue, err = queueContents(ctx, store)
			return err
		})
		if err != nil {
			return err
		}
	}
	if s.Address != "" || s.Spool+s.Queue == "" {
		status, err := ask(ctx, cmp.Or(s.Address, defaultAddress))
		if err != nil {
			return err
		}
		r.Runner = status
	}
	if s.Output == "json" {
		encoder := json.NewEncoder(stdio.Out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	return r.print(stdio.Out)
}

// queueContents puts together what is in the queue and what has left it.
func queueContents(ctx context.Context, store queue.Store) (*api.QueueContents, error) {
	all, err := store.List(ctx)
	if err != nil {
		return nil, err
	}
	offers := offersOf(ctx, store)
	q := &api.QueueContents{Ready: []api.QueuedTask{}, Claimed: []api.QueuedTask{}, Dead: []api.DeadLetter{}, Finished: []string{}}
	for _, t := range all {
		queued := api.QueuedTask{ID: t.ID, Starts: t.Starts, Spent: t.Spent, Runner: t.Runner}
		switch t.State {
		case api.TaskWaiting:
			queued.Why = why(t, offers)
			q.Ready = append(q.Ready, queued)
		case api.TaskRunning:
			q.Claimed = append(q.Claimed, queued)
		case api.TaskDead:
			q.Dead = append(q.Dead, api.DeadLetter{Task: t.Task, Reason: t.Reason, Attempts: t.Spent, Time: t.Since})
		case api.TaskFinished:
			q.Finished = append(q.Finished, t.ID)
		case api.TaskCancelled:
			q.Cancelled = append(q.Cancelled, t.ID)
		}
	}
	return q, nil
}

// ask gets the status document of a runner.
func ask(ctx context.Context, address string) (*api.Status, error) {
	const limit = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/statusz", nil)
	if err != nil {
		return nil, fmt.Errorf("ask runner: %w; set --address to HOST:PORT", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask runner: %w; is it running, and is --address where it listens?", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask runner: %s answered %s; is it a runner?", address, response.Status)
	}
	var status api.Status
	if err := json.NewDecoder(response.Body).Decode(&status); err != nil {
		return nil, fmt.Errorf("ask runner: read status: %w", err)
	}
	return &status, nil
}

// errUnread says that what is printed has no reader any more.
var errUnread = errors.New("nobody reads the output")

// whileRead returns a context that ends when nobody reads the output any more, as
// after head -n 1: a quiet runner would not tell by an error for hours. Files always
// have a reader.
func whileRead(ctx context.Context, out io.Writer) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	file, ok := out.(*os.File)
	if !ok {
		return ctx, func() { cancel(nil) }
	}
	var looking sync.WaitGroup
	looking.Go(func() {
		const often = 200 // ms; what poll waits for cannot be cancelled
		for ctx.Err() == nil {
			// No events are asked for: errors and hang-ups are told anyway.
			polled := []unix.PollFd{{Fd: int32(file.Fd())}}
			if n, _ := unix.Poll(polled, often); n > 0 {
				cancel(errUnread)
			}
		}
	})
	return ctx, func() { cancel(nil); looking.Wait() }
}

// watch calls each for every status that a runner reports, from when it first
// answers until it ends.
func watch(ctx context.Context, address string, each func(*api.Status) error) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/statusz?watch=true", nil)
	if err != nil {
		return fmt.Errorf("watch runner: %w; set --address to HOST:PORT", err)
	}
	// A pause that is short beside the time in which a runner starts.
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	response, err := http.DefaultClient.Do(request)
	for ; err != nil; response, err = http.DefaultClient.Do(request) {
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("watch runner: %w", err)
		}
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("watch runner: %s answered %s; is it a runner?", address, response.Status)
	}
	decoder := json.NewDecoder(response.Body)
	for {
		var status api.Status
		switch err := decoder.Decode(&status); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil // the runner has ended, however it did
		case err != nil:
			return fmt.Errorf("watch runner: read status: %w", err)
		}
		if err := each(&status); err != nil {
			return err
		}
	}
}

func newline(out io.Writer) error {
	_, err := fmt.Fprintln(out)
	return err
}

func (r answers) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if s := r.Runner; s != nil {
		printStatus(w, s)
	}
	if q := r.Queue; q != nil {
		fmt.Fprintf(w, "Queue:\t%d ready, %d claimed, %d dead, %d finished\n", len(q.Ready), len(q.Claimed), len(q.Dead), len(q.Finished))
		for _, t := range q.Claimed {
			fmt.Fprintf(w, "  claimed\t%s\tby %s, start %d\n", t.ID, t.Runner, t.Starts)
		}
		for _, t := range q.Ready {
			fmt.Fprintf(w, "  ready\t%s\tstarted %d times, %d attempts used; %s\n", t.ID, t.Starts, t.Spent, t.Why)
		}
		for _, d := range q.Dead {
			id := "(unreadable)"
			if d.Task != nil {
				id = d.Task.ID
			}
			fmt.Fprintf(w, "  dead\t%s\t%s\n", id, d.Reason)
		}
	}
	return w.Flush()
}

func printStatus(w io.Writer, s *api.Status) {
	phase := string(s.Phase)
	if s.Target != api.Unset {
		phase += " to " + string(s.Target)
	}
	fmt.Fprintf(w, "Runner:\t%s (pid %d, version %s)\n", s.Runner, s.PID, s.Version)
	if !s.Since.IsZero() {
		phase += fmt.Sprintf(" for %s", time.Since(s.Since).Round(time.Second))
	}
	fmt.Fprintf(w, "Phase:\t%s\n", phase)
	if s.Reason != "" {
		fmt.Fprintf(w, "Reason:\t%s\n", s.Reason)
	}
	if s.Source != "" {
		source := string(s.Source)
		if s.ResourceVersion != "" {
			source += ", resourceVersion " + s.ResourceVersion
		}
		fmt.Fprintf(w, "Source:\t%s\n", source)
	}
	if s.Shadowed != nil {
		fmt.Fprintf(w, "Shadowed:\t%s map says %s\n", s.Shadowed.Source, s.Shadowed.Value)
	}
	if !s.Heard.IsZero() {
		fmt.Fprintf(w, "API server:\theard %s ago\n", time.Since(s.Heard).Round(time.Second))
	}
	printMap(w, "Global map", s.Maps.Namespace, s.Maps.Global)
	printMap(w, "Node map", s.Maps.Namespace, s.Maps.Node)
	fmt.Fprintf(w, "Tasks:\t%d running, %d waiting; %d started, %d succeeded, %d failed, %d failed by the machine, %d cancelled, %d requeued\n",
		s.Tasks.Running, s.Tasks.Waiting, s.Tasks.Started, s.Tasks.Succeeded, s.Tasks.Failed, s.Tasks.MachineFailed, s.Tasks.Cancelled, s.Tasks.Requeued)
	for _, t := range s.InFlight {
		fmt.Fprintf(w, "  %s\tstart %d, for %s\t%s\n", t.ID, t.Attempt, time.Since(t.Started).Round(time.Second), strings.Join(t.GPUs, " "))
	}
	if s.GPUProblem != "" {
		fmt.Fprintf(w, "GPUs:\t%s\n", s.GPUProblem)
	}
	for _, g := range s.GPUs {
		holder := g.Task
		if holder == "" {
			holder = "free"
		}
		if g.HealthReason != "" {
			holder += fmt.Sprintf(", %s: %s", g.Health, g.HealthReason)
		}
		fmt.Fprintf(w, "GPU %d:\t%s, %s, %d MiB\t%s\n", g.Index, g.Model, g.UUID, g.MemoryBytes>>20, holder)
	}
}

func printMap(w io.Writer, title, namespace string, m *api.MapStatus) {
	if m == nil {
		fmt.Fprintf(w, "%s:\tnot watched\n", title)
		return
	}
	value := string(m.Value)
	switch {
	case !m.Readable && m.ResourceVersion == "":
		value = "not read yet"
	case m.Value == api.Unset && !m.Present:
		value = "absent"
	case m.Value == api.Unset:
		value = "unset"
	}
	fmt.Fprintf(w, "%s:\t%s/%s: %s\n", title, namespace, m.Name, value)
	if m.Problem != "" {
		fmt.Fprintf(w, "\t%s\n", m.Problem)
	}
}
