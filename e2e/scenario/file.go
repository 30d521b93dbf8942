// Package scenario is the format of the files under scenarios/: what one file
// says, how it is read, expanded and checked. It knows no cluster and no
// target; the engine runs what this package returns.
package scenario

import (
	"slices"
	"time"
)

// File is one scenario, or a family of them when it has a matrix.
type File struct {
	// Name is what the spec is called. In a family it says what differs, as
	// "global ${global}, node ${node}".
	Name string `json:"name"`
	// Rows are the rows of the catalogue (contract, section 4) that it shows.
	Rows []int `json:"rows"`
	// About says in a sentence or two why the scenario matters.
	About string `json:"about,omitempty"`
	// Targets are the kinds of cluster that it is meant for.
	Targets []string `json:"targets"`
	// Needs are the abilities that a target must have for it.
	Needs []Need `json:"needs,omitempty"`
	// Labels are extra labels to select it by, as slow.
	Labels []string `json:"labels,omitempty"`
	// Timeout bounds the whole scenario; the default is a minute.
	Timeout Duration `json:"timeout,omitempty"`

	// Matrix makes a family: one scenario for each combination of the values.
	// ${name} stands for the value everywhere else in the file.
	Matrix Matrix `json:"matrix,omitempty"`
	// Exclude drops the combinations of the matrix that match one of these in
	// every variable named.
	Exclude []map[string]string `json:"exclude,omitempty"`
	// Include adds combinations, each with a value for every variable that the
	// file uses. Without a matrix it is a table of cases.
	Include []map[string]string `json:"include,omitempty"`
	// Predict gives names to what the rules R1 to R3 say about a pair of maps at
	// the start of a runner, computed by an oracle that shares no code with it:
	// ${name.effective}, ${name.phase} (of an idle runner), ${name.source} and
	// ${name.shadowed} ("none" if there is none).
	Predict map[string]Pair `json:"predict,omitempty"`

	// Permissions is what the runners may do at start; the default is shipped.
	Permissions Permissions `json:"permissions,omitempty"`
	// Maps are the ConfigMaps that exist before any runner starts, by subject:
	// global, or the name of a runner for its node map.
	Maps map[string]Map `json:"maps,omitempty"`
	// Tasks are submitted before any runner starts.
	Tasks []Submit `json:"tasks,omitempty"`
	// Runners by name. They are started after maps and tasks, unless delayed.
	Runners map[string]Runner `json:"runners"`
	// Steps happen in order.
	Steps []Step `json:"steps"`
}

// Matrix is the variables of a family, in the order of the file. In a file it
// is a mapping from names to lists.
type Matrix []Variable

// Variable is one variable of a matrix and the values that it takes.
type Variable struct {
	Name   string
	Values []string
}

// Need is an ability that not every target has.
type Need string

// The abilities.
const (
	// NeedAPIServer: the API server can be stopped and started.
	NeedAPIServer Need = "apiserver"
	// NeedNetwork: the runners' connections to the API server can be cut.
	NeedNetwork Need = "network"
	// NeedQueueOutage: the queue can be made unreachable.
	NeedQueueOutage Need = "queue-outage"
	// NeedSignals: a runner can be sent any signal, any number of times.
	NeedSignals Need = "signals"
	// NeedGPUs: runners can have GPUs, real or fake.
	NeedGPUs Need = "gpus"
	// NeedFakeGPUs: the GPUs are fake, and can be changed by the fakegpu command.
	NeedFakeGPUs Need = "fake-gpus"
	// NeedAdmission: the shipped admission policy, which is for the whole
	// cluster, can be installed.
	NeedAdmission Need = "admission"
	// NeedToken: the token of the runners' service account can be replaced, and ended.
	NeedToken Need = "token"
)

// UsesGPUsOfTarget says whether needs ask for GPUs as the target has them. Those
// that a scenario changes are fake, and of that scenario alone.
func UsesGPUsOfTarget(needs []Need) bool {
	return slices.Contains(needs, NeedGPUs) && !slices.Contains(needs, NeedFakeGPUs)
}

// Permissions is a set of rights of the runners' service account.
type Permissions string

// The sets. Shipped is the namespace-wide Role of runner/deploy, Named the one
// that allows only the maps' names.
const (
	PermissionsShipped    Permissions = "shipped"
	PermissionsNamed      Permissions = "named"
	PermissionsGlobalOnly Permissions = "global-only"
	PermissionsNone       Permissions = "none"
)

// Pair is the two values that a prediction is made for, written like Map's
// scalar form.
type Pair struct {
	// Global is the value of the global map.
	Global string `json:"global"`
	// Node is the value of the node map.
	Node string `json:"node"`
}

// Map is a ConfigMap. In a file it may be a plain text: "absent" is no map at
// all, "keyless" a map without STATE, anything else, the empty text too, the
// value of STATE.
type Map struct {
	// Absent is no map at all; in apply it deletes the map if there is one.
	Absent bool `json:"absent,omitempty"`
	// Data is sent as it is.
	Data map[string]string `json:"data,omitempty"`
	// BinaryData is sent as it is, which is base64.
	BinaryData map[string]string `json:"binaryData,omitempty"`
	// Immutable maps can only be deleted and created anew.
	Immutable bool `json:"immutable,omitempty"`
	// Labels are set on the map.
	Labels map[string]string `json:"labels,omitempty"`
	// Elsewhere puts the map into another namespace than the runners'.
	Elsewhere bool `json:"elsewhere,omitempty"`
}

// Submit puts tasks into the queue.
type Submit struct {
	// Group names the tasks: <group>-1, <group>-2 and so on. A group is
	// submitted once.
	Group string `json:"group"`
	// Count is how many; the default is 1.
	Count int `json:"count,omitempty"`
	// Hold keeps each task running until the group is released.
	Hold bool `json:"hold,omitempty"`
	// Fail makes each task exit with status 1 at its end.
	Fail bool `json:"fail,omitempty"`
	// IgnoreTerm makes each task deaf to SIGTERM.
	IgnoreTerm bool `json:"ignoreTerm,omitempty"`
	// GPUs is the number of whole GPUs that each task asks for.
	GPUs int `json:"gpus,omitempty"`
	// GPUMemory is the memory that each of them must have, as 16Gi.
	GPUMemory string `json:"gpuMemory,omitempty"`
	// MaxAttempts is that of the task document.
	MaxAttempts int `json:"maxAttempts,omitempty"`
	// Timeout is that of the task document, as 90s.
	Timeout string `json:"timeout,omitempty"`
}

// Runner is one runner process or pod.
type Runner struct {
	// Delayed runners are started by a start step.
	Delayed bool `json:"delayed,omitempty"`
	// GPUs is the number of GPUs it has; 0 is a machine without NVML.
	GPUs int `json:"gpus,omitempty"`
	// Profile is the GPU model where the target can choose it; the default is T4.
	Profile string `json:"profile,omitempty"`
	// Machine is the runner whose machine, with its fake GPUs, this one runs on
	// as well; the default is a machine of its own.
	Machine string `json:"machine,omitempty"`
	// Visible is its NVIDIA_VISIBLE_DEVICES.
	Visible string `json:"visible,omitempty"`
	// Slots is how many tasks it runs at the same time; the default is 4.
	Slots int `json:"slots,omitempty"`
	// Hostname overrides HOSTNAME; "unset" removes it.
	Hostname string `json:"hostname,omitempty"`
	// Flags are further flags of runner serve, without dashes, as settle: 2s.
	Flags map[string]string `json:"flags,omitempty"`
}

// Step is one thing that is done or waited for. Exactly one field is set.
type Step struct {
	// Line is where the step stands in its file.
	Line int `json:"-"`

	// Apply creates or changes maps, by subject.
	Apply map[string]Map `json:"apply,omitempty"`
	// Replace deletes maps and creates them anew, as kubectl replace --force does.
	Replace map[string]Map `json:"replace,omitempty"`
	// Delete deletes maps, by subject.
	Delete []string `json:"delete,omitempty"`
	// RemoveKey takes STATE out of maps and leaves the rest, by subject.
	RemoveKey []string `json:"removeKey,omitempty"`
	// Touch changes a label of maps and nothing else.
	Touch []string `json:"touch,omitempty"`
	// Flip changes one map many times in a row.
	Flip *Flip `json:"flip,omitempty"`
	// Crowd fills the runners' namespace with maps that concern none of them.
	Crowd *Crowd `json:"crowd,omitempty"`
	// Manifest applies YAML text as kubectl reads it.
	Manifest *Manifest `json:"manifest,omitempty"`
	// Admission installs the shipped ValidatingAdmissionPolicy for the
	// scenario's namespace, and waits until it is enforced.
	Admission bool `json:"admission,omitempty"`

	// Submit puts tasks into the queue.
	Submit *Submit `json:"submit,omitempty"`
	// Release lets the held tasks of groups end.
	Release []string `json:"release,omitempty"`

	// Start starts delayed runners, and those that ended, under their old name.
	Start []string `json:"start,omitempty"`
	// Signal sends a signal to runners: TERM, INT or KILL.
	Signal map[string]string `json:"signal,omitempty"`

	// APIServer is stop or start.
	APIServer string `json:"apiserver,omitempty"`
	// Network is cut, restore, or a duration after which each connection is
	// closed, as 500ms.
	Network string `json:"network,omitempty"`
	// Queue is hide or restore.
	Queue string `json:"queue,omitempty"`
	// Permissions changes the rights of the runners.
	Permissions Permissions `json:"permissions,omitempty"`
	// FakeGPU changes the fake GPUs of runners, started or not: a command line
	// of fakegpu with DIR for the state directory, as "inject xid DIR 0 79".
	FakeGPU map[string]string `json:"fakegpu,omitempty"`

	// Mark names this point of the record, for never.
	Mark string `json:"mark,omitempty"`
	// Await waits until all the conditions hold at once, by subject.
	Await map[string]Condition `json:"await,omitempty"`
	// Expect says what must hold already. It waits for nothing but the news of
	// it: runners, tasks and the queue report each with a delay of their own.
	Expect map[string]Condition `json:"expect,omitempty"`
	// Never says what no entry of the record may show.
	Never *Never `json:"never,omitempty"`
	// Wait lets time pass, where there is no cause to wait for.
	Wait *Wait `json:"wait,omitempty"`
}

// Flip sets the STATE of one map to each of the values in turn, again and
// again, and at the end to Last.
type Flip struct {
	// Map is the subject, global or a runner.
	Map string `json:"map"`
	// Values are values of STATE.
	Values []string `json:"values"`
	// Every is the time between two changes.
	Every Duration `json:"every"`
	// Times is how many changes there are.
	Times int `json:"times"`
	// Last is the value at the end.
	Last string `json:"last"`
}

// Crowd is many ConfigMaps that concern no runner. They are there when the step
// ends; until the scenario does, they are changed, one at a time.
type Crowd struct {
	// Maps is how many there are.
	Maps int `json:"maps"`
	// Every is the time between two changes.
	Every Duration `json:"every"`
}

// Manifest is YAML text for the API server. The namespace is filled in.
type Manifest struct {
	// Text is what kubectl apply would be given.
	Text string `json:"text"`
	// Refused is what the API server's refusal must say; empty = it must accept.
	Refused string `json:"refused,omitempty"`
}

// Never is a condition that must not show in the record.
type Never struct {
	// Since is the mark to begin at; empty is the beginning of the record.
	Since string `json:"since,omitempty"`
	// That are the conditions, by subject. A status that meets every field of
	// its runner's condition is a failure.
	That map[string]Condition `json:"that"`
}

// Wait is a pause that must say why nothing better can be waited for.
type Wait struct {
	// For is how long.
	For Duration `json:"for"`
	// Because is the reason.
	Because string `json:"because"`
}

// Condition is what a subject must show; fields that are not set do not count.
// A subject is a runner, "tasks" for all tasks or "tasks/<group>" for a group.
type Condition struct {
	// Phase is what a runner's newest status says to be so.
	Phase string `json:"phase,omitempty"`
	// Effective is the state asked of a runner, "none" while it is not known.
	Effective string `json:"effective,omitempty"`
	// Target is what a runner drains to.
	Target string `json:"target,omitempty"`
	// Source is where a runner's phase comes from.
	Source string `json:"source,omitempty"`
	// Shadowed is the value of the outweighed map, or "none".
	Shadowed string `json:"shadowed,omitempty"`
	// Running is how many tasks a runner runs now.
	Running *int `json:"running,omitempty"`
	// Waiting is how many tasks a runner has fetched and not started.
	Waiting *int `json:"waiting,omitempty"`
	// GPUs is how many GPUs a runner has.
	GPUs *int `json:"gpus,omitempty"`
	// GPUsBusy is how many of them tasks hold.
	GPUsBusy *int `json:"gpusBusy,omitempty"`
	// GPUsSick is how many GPUs a runner has taken out.
	GPUsSick *int `json:"gpusSick,omitempty"`
	// GPUsRetiring is how many get no new task.
	GPUsRetiring *int `json:"gpusRetiring,omitempty"`
	// GPUReason is a part of what a runner says about a GPU that is not healthy,
	// or about all of them.
	GPUReason string `json:"gpuReason,omitempty"`
	// MachineFailed counts the attempts that a runner blames on a sick GPU.
	MachineFailed *int `json:"machineFailed,omitempty"`
	// Problem is a part of the sentence about one of a runner's maps.
	Problem string `json:"problem,omitempty"`
	// Reason is a part of the sentence that says what a runner waits for.
	Reason string `json:"reason,omitempty"`
	// Seen is true when a runner has seen the newest version of its maps that
	// the API server has.
	Seen *bool `json:"seen,omitempty"`
	// Live is whether a runner's liveness probe succeeds.
	Live *bool `json:"live,omitempty"`
	// Ready is whether a runner's readiness probe succeeds.
	Ready *bool `json:"ready,omitempty"`
	// Log is a part of a line that a runner has logged (since the mark, in never).
	Log string `json:"log,omitempty"`
	// Exit is the exit code of a runner's last process, -1 if a signal ended it.
	Exit *int `json:"exit,omitempty"`
	// Processes is how often a runner was started.
	Processes *int `json:"processes,omitempty"`
	// Transitions counts the changes of a runner's phase since it started.
	Transitions *int `json:"transitions,omitempty"`

	// Started counts the attempts that began: of the tasks, or by a runner, as
	// the tasks themselves tell.
	Started *int `json:"started,omitempty"`
	// Finished counts the attempts that came to their end, likewise.
	Finished *int `json:"finished,omitempty"`

	// Left is how many of the tasks are in the queue, claimed or not.
	Left *int `json:"left,omitempty"`
	// Queued is how many of the tasks no runner has claimed.
	Queued *int `json:"queued,omitempty"`
	// Dead is how many of the tasks were given up.
	Dead *int `json:"dead,omitempty"`
}

// Duration is a time.Duration written as "500ms".
type Duration time.Duration

// String returns the duration as it stands in a file.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText returns the duration as it stands in a file.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
