package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Status does not take the variables for a queue, which are not meant for it.
type Status struct {
	Address  string `env:"STUDIOML_ADDRESS" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Runner to ask, unless --spool or --queue is given (default ${default})."`
	Spool    string `type:"path" placeholder:"DIR" help:"Queue to look into."`
	Queue    string `placeholder:"URL" help:"Queue in a PostgreSQL server to look into."`
	Printing `embed:"" set:"watch=Print the runner's status at each change, until the runner ends; one that does not answer yet is waited for"`
}

func (s *Status) Validate() error {
	switch {
	case s.Spool != "" && s.Queue != "":
		return errors.New("--spool and --queue cannot be used together: ask one queue")
	case s.Watch && s.Spool+s.Queue != "":
		return errors.New("--watch and --spool cannot be used together, nor --queue: a runner can be watched, and tasks by runner tasks --watch")
	}
	return unseen(s.Queue)
}

// answers are what the runner or the queue says.
type answers struct {
	Runner *api.Status `json:"runner,omitempty"`
	Queue  *taskViews  `json:"queue,omitempty"`
}

func (s *Status) Run(ctx context.Context, stdio stdio) error {
	if s.Spool+s.Queue == "" {
		return s.ask(ctx, stdio)
	}
	return (&Place{s.Spool, s.Queue}).with(toLook, func(store connection) error {
		all, err := (&Tasks{Printing: Printing{Output: "table"}}).views(ctx, store)
		if err != nil {
			return err
		}
		return s.print(stdio.Out, answers{Queue: &all})
	})
}

// ask prints the status of a runner or, to who watches, each that it reports, from when
// it first answers until it ends. Of one that does not answer for a second that is said.
func (s *Status) ask(ctx context.Context, stdio stdio) error {
	const limit, again, second = 10 * time.Second, 20 * time.Millisecond, 50 // a runner starts in ten of these
	client, url := &http.Client{Timeout: limit}, "http://"+s.Address+"/statusz"
	if s.Watch {
		ctx = whileRead(ctx, stdio.Out)
		client, url = http.DefaultClient, url+"?watch=true"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask runner: %w; set --address to HOST:PORT", err)
	}
	response, err := client.Do(request)
	for times := 1; err != nil && s.Watch && ctx.Err() == nil; response, err = client.Do(request) {
		if times++; times == second {
			fmt.Fprintf(stdio.Err, "runner: %v; asking again until it answers\n", err)
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
		}
	}
	if err != nil {
		return fmt.Errorf("ask runner: %w; is it running, and is --address where it listens?", cmp.Or(context.Cause(ctx), err))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask runner: %s answered %s; is it a runner?", s.Address, response.Status)
	}
	for decoder := json.NewDecoder(response.Body); ; {
		var status api.Status
		switch err := decoder.Decode(&status); {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF), s.Watch && errors.Is(err, io.ErrUnexpectedEOF):
			return nil // the runner has ended, however it did
		case err != nil:
			return fmt.Errorf("ask runner: read status: %w", err)
		}
		if last, err := s.show(stdio.Out, answers{Runner: &status}, nil); last {
			return err
		}
	}
}

func (a answers) rows(t table) {
	if a.Runner != nil {
		statusRows(t, a.Runner)
	}
	if a.Queue == nil {
		return
	}
	in, shown := map[api.TaskState]int{}, taskViews{}
	for _, v := range a.Queue.Tasks {
		if in[v.State]++; v.State != api.TaskFinished && v.State != api.TaskCancelled {
			shown.Tasks = append(shown.Tasks, v)
		}
	}
	t.row("Queue:", fmt.Sprintf("%d waiting, %d running, %d dead, %d finished, %d cancelled",
		in[api.TaskWaiting], in[api.TaskRunning], in[api.TaskDead], in[api.TaskFinished], in[api.TaskCancelled]))
	shown.rows(t)
}

func statusRows(t table, s *api.Status) {
	t.field("Runner", fmt.Sprintf("%s (pid %d, version %s)", s.Runner, s.PID, s.Version))
	phase := string(s.Phase) + after(" to ", string(s.Target))
	if !s.Since.IsZero() {
		phase += " for " + age(s.Since)
	}
	t.field("Phase", phase)
	t.field("Reason", s.Reason)
	t.field("Why", s.Why)
	t.field("Deadline", s.DrainDeadline)
	t.field("Source", string(s.Source)+after(", resourceVersion ", s.ResourceVersion))
	if s.Shadowed != nil {
		t.field("Shadowed", fmt.Sprintf("%s map says %s", s.Shadowed.Source, s.Shadowed.Value))
	}
	if !s.Heard.IsZero() {
		t.field("API server", fmt.Sprintf("heard %s ago", age(s.Heard)))
	}
	mapRows(t, "Global map", s.Maps.Namespace, s.Maps.Global)
	mapRows(t, "Node map", s.Maps.Namespace, s.Maps.Node)
	n := s.Tasks
	t.field("Tasks", fmt.Sprintf("%d running, %d waiting; %d started, %d succeeded, %d failed, %d failed by the machine, %d cancelled, %d requeued",
		n.Running, n.Waiting, n.Started, n.Succeeded, n.Failed, n.MachineFailed, n.Cancelled, n.Requeued))
	for _, task := range s.InFlight {
		t.row("  "+task.ID, fmt.Sprintf("start %d, for %s", task.Attempt, age(task.Started)), strings.Join(task.GPUs, " "))
	}
	t.field("GPUs", s.GPUProblem)
	for _, g := range s.GPUs {
		t.row(fmt.Sprintf("GPU %d:", g.Index), fmt.Sprintf("%s, %s, %d MiB", g.Model, g.UUID, g.MemoryBytes>>20),
			cmp.Or(g.Task, "free")+after(fmt.Sprintf(", %s: ", g.Health), g.HealthReason))
	}
}

func mapRows(t table, title, namespace string, m *api.MapStatus) {
	if m == nil {
		t.field(title, "not watched")
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
	t.field(title, fmt.Sprintf("%s/%s: %s", namespace, m.Name, value))
	t.field("  problem", m.Problem)
}
