// Package targets says what the engine needs of a cluster and of the runners on
// it. The engine knows no target, and a target sees no condition, nor a step but how tasks
// behave: of a scenario it gets what Isolation and RunnerSpec have, in the words of the format.
package targets

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/network"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// Target is a kind of cluster that scenarios run on.
type Target interface {
	// Isolate makes a place for one scenario that no other one can see. The error
	// is a Cannot if the target lacks what the scenario needs.
	Isolate(ctx context.Context, isolation Isolation) (Env, error)
}

// Isolation is what a scenario asks of its place.
type Isolation struct {
	Name        string // of the scenario, for people
	Needs       []scenario.Need
	Permissions scenario.Permissions
	// APIServerFlags are further flags of the scenario's own API server, by name
	// without dashes; only where it needs apiserver.
	APIServerFlags map[string]string
	// NodeMaps are the names of all node maps, for Roles that list names.
	NodeMaps []string
	// GPUs is the most that one of its runners has.
	GPUs int
	// Server has the queue be in a PostgreSQL server where it could be in a directory.
	Server bool
	// Idle says that nobody submits a task, or looks into the queue.
	Idle bool
	// Evidence is a directory for what a person needs after a failure.
	Evidence string
}

// Cannot is the error of Isolate where a scenario is one that this target cannot
// play; it says why.
type Cannot string

func (c Cannot) Error() string { return string(c) }

// Env is the place of one scenario: a namespace with a service account, a
// queue and runners. Its methods return when what they are asked for is so; the
// error says what could not be done, and ctx bounds the attempt.
type Env interface {
	Cluster
	Queue
	// StartRunner starts a runner, or starts it again under its old name, which
	// is an error while its last process lives. What the process tells goes to
	// the sink until it has ended or the Env is closed.
	StartRunner(ctx context.Context, spec RunnerSpec, tells Sink) (Runner, error)
	// Collect writes what a person needs after a failure into the artifacts.
	Collect(ctx context.Context) error
	// Close ends the runners and removes everything.
	Close(ctx context.Context) error
}

// Cluster is the API server as one scenario sees it.
type Cluster interface {
	// Namespace is the name of the runners' namespace.
	Namespace() string
	// Elsewhere is a second namespace, made when it is first asked for.
	Elsewhere(ctx context.Context) (string, error)
	// Client acts as the test, with all rights.
	Client() kube.Access
	// SetPermissions changes the rights of the runners, and waits until they are
	// in force.
	SetPermissions(ctx context.Context, p scenario.Permissions) error
	// Admission installs the shipped admission policy for this namespace, and
	// waits until it refuses what it should.
	Admission(ctx context.Context) error
}

// Queue is the queue of one scenario, and what its tasks note.
type Queue interface {
	// Submit puts task documents into the queue, all with one call.
	Submit(ctx context.Context, tasks []api.Task) error
	// Queue lists what is in the queue now.
	Queue(ctx context.Context) (Contents, error)
	// Owner runs a command of the runner on the queue, as the owner of tasks does.
	Owner(ctx context.Context, command ...string) error
	// TaskCommand is the command line of a task that notes its start, waits
	// for Release if it is held, notes its steps if it has any, and its end.
	TaskCommand(s scenario.Submit) (command string, args []string, err error)
	// Release lets the held tasks of a group end, now and later.
	Release(ctx context.Context, group string) error
	// Journal calls each for every note of a task, in order, until ctx ends.
	Journal(ctx context.Context, each func(TaskNote)) error
}

// Contents are the tasks that a queue knows at one moment.
type Contents []api.TaskStatus

// In returns the ids of those in a state. A letter that was no task is none's.
func (c Contents) In(state api.TaskState) (ids []string) {
	for _, t := range c {
		if t.State == state && (t.State != api.TaskDead || t.Task != nil) {
			ids = append(ids, t.ID)
		}
	}
	return ids
}

// String counts them, for people.
func (c Contents) String() string {
	count := func(state api.TaskState) int { return len(c.In(state)) }
	return fmt.Sprintf("%d waiting, %d running, %d finished, %d dead", count(api.TaskWaiting), count(api.TaskRunning), count(api.TaskFinished), count(api.TaskDead))
}

// TaskNote is what a task itself wrote down about its run.
type TaskNote struct {
	Task    string
	Attempt int
	Runner  string // the runner's name as the task was told
	End     bool   // false at its start
	Step    int    // that it has done and saved, between the two
	GPUs    string // CUDA_VISIBLE_DEVICES
}

// RunnerSpec is a runner to start.
type RunnerSpec struct {
	Name string
	scenario.Runner
}

// Runner is one process or pod.
type Runner interface {
	// Get asks for a path of the process, as /livez, and returns the HTTP status
	// and the body; an error means that nothing answered.
	Get(ctx context.Context, path string) (code int, body []byte, err error)
	// Signal sends a signal, and does not wait for what it does.
	Signal(ctx context.Context, sig os.Signal) error
}

// Sink takes what a process of a runner tells, as it comes. Statuses and log
// lines each come in their order, from goroutines of their own. Exit is the last
// call, and the only one of its kind: everything else was told before.
type Sink interface {
	Status(api.Status)
	Log(line string)
	// Trouble is why something that the process told may be missing.
	Trouble(err error)
	Exit(Exit)
}

// Exit is how a runner's process ended.
type Exit struct {
	Code    int    // -1 if a signal ended it
	Message string // the termination message
	Time    time.Time
}

// APIServerControl is what an Env has where scenarios need apiserver.
type APIServerControl interface {
	StopAPIServer(ctx context.Context) error
	StartAPIServer(ctx context.Context) error
}

// NetworkControl is what an Env has where scenarios need network.
type NetworkControl interface {
	// SetNetwork changes what lies between the runners and the API server, for
	// connections that are open and for new ones.
	SetNetwork(network.Fault) error
}

// TokenControl is what an Env has where scenarios need token.
type TokenControl interface {
	// SetToken replaces the token of the runners' service account: by a new one
	// (rotate), or by nothing that the API server takes: the present one has
	// expired, or was revoked. It waits until the API server sees it so.
	SetToken(ctx context.Context, what scenario.Token) error
}

// FakeGPUControl is what an Env has where scenarios need fake-gpus.
type FakeGPUControl interface {
	// ChangeGPUs runs a command line of fakegpu on the machine of a runner that
	// may not have been started yet; the word DIR stands for its state directory.
	ChangeGPUs(ctx context.Context, spec RunnerSpec, words []string) error
}

// KubectlControl is what an Env has where scenarios need kubectl. Its namespace is
// the runners', and it has all rights there.
type KubectlControl interface {
	// Kubectl has a shell run a line that begins behind the word kubectl, and
	// returns what that prints.
	Kubectl(ctx context.Context, line string) (output string, err error)
	// Shell is what a person sets in another terminal for the same, as
	// NAME=value.
	Shell() (variables []string, err error)
}

// QueueControl is what an Env has where scenarios need queue-outage. That is the
// runners': submits go on.
type QueueControl interface {
	HideQueue() error
	RestoreQueue() error
}
