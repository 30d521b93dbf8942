package api

import "time"

// Status is the document behind /statusz. With ?watch=true the runner sends
// one such document a line for every change, the present one first.
type Status struct {
	// Sequence grows by one with each change, so that a reader of the stream
	// can tell that it missed none.
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"`

	Runner  string    `json:"runner"`
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`

	// Phase is what is so, and Since the time it has been so.
	Phase Phase     `json:"phase"`
	Since time.Time `json:"since"`
	// Heard is when the API server last gave a sign of life, be it the answer to
	// a ping; none before the first, and without a cluster.
	Heard time.Time `json:"heard,omitzero"`
	// Effective is what the maps ask for; empty while it is not known.
	Effective State `json:"effective,omitempty"`
	// Target is what the runner drains to while Phase is Draining.
	Target State `json:"target,omitempty"`
	// Source is where the phase comes from; empty while it is not known.
	Source Source `json:"source,omitempty"`
	// ResourceVersion is that of the map behind Source.
	ResourceVersion string `json:"resourceVersion,omitempty"`
	// Reason says in a sentence what the runner waits for, if anything.
	Reason string `json:"reason,omitempty"`
	// Why and DrainDeadline are the valid annotations of the map behind Source: the
	// reason, and a duration from the drain's begin.
	Why           string `json:"why,omitempty"`
	DrainDeadline string `json:"drainDeadline,omitempty"`
	// Shadowed is set when the weaker map asks for something else.
	Shadowed *Shadowed `json:"shadowed,omitempty"`

	Maps  Maps       `json:"maps"`
	Tasks TaskCounts `json:"tasks"`
	// InFlight lists the tasks that run, oldest first.
	InFlight []InFlight `json:"inFlight,omitempty"`
	GPUs     []GPU      `json:"gpus,omitempty"`
	// GPUProblem says in a sentence why there are no GPUs, why one is not in the
	// list, or why what is said of them may be old.
	GPUProblem string `json:"gpuProblem,omitempty"`
}

// Shadowed is the value of a map that the stronger map outweighs.
type Shadowed struct {
	Source Source `json:"source"`
	Value  State  `json:"value"`
}

// Maps is what the runner knows about the two ConfigMaps. A nil map is not
// watched: without a cluster, or without a usable HOSTNAME.
type Maps struct {
	Namespace string     `json:"namespace,omitempty"`
	Global    *MapStatus `json:"global,omitempty"`
	Node      *MapStatus `json:"node,omitempty"`
}

// MapStatus is what the runner knows about one ConfigMap.
type MapStatus struct {
	Name string `json:"name"`
	// Readable is false while the map cannot be read: its last value stays in force.
	Readable bool `json:"readable"`
	Present  bool `json:"present"`
	// Value is the valid value in force, empty for none.
	Value State `json:"value,omitempty"`
	// Problem is the sentence that was logged about the map, if there is one.
	Problem string `json:"problem,omitempty"`
	// ResourceVersion is the newest one that the runner has seen for this map,
	// that of the deletion included.
	ResourceVersion string `json:"resourceVersion,omitempty"`
}

// TaskCounts counts tasks. Running and Waiting are present amounts, the rest
// totals since the process started.
type TaskCounts struct {
	Running   int `json:"running"`
	Waiting   int `json:"waiting"` // fetched, not started
	Started   int `json:"started"` // attempts that passed the gate, the running ones included
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"` // attempts that failed or timed out
	// MachineFailed counts attempts that a sick GPU ended; they are given back
	// without using an attempt, and are not in Requeued.
	MachineFailed int `json:"machineFailed"`
	Cancelled     int `json:"cancelled"` // by their owners
	Requeued      int `json:"requeued"`  // given back without using an attempt
}

// InFlight is a task that runs.
type InFlight struct {
	ID      string    `json:"id"`
	Attempt int       `json:"attempt"`
	Started time.Time `json:"started"`
	GPUs    []string  `json:"gpus,omitempty"`
}

// GPU is one device that the runner may give to tasks: a whole GPU or a MIG
// device.
type GPU struct {
	UUID        string `json:"uuid"`
	Parent      string `json:"parent,omitempty"` // UUID of the GPU that a MIG device is part of
	Index       int    `json:"index"`            // NVML's index of the GPU, which is not CUDA's
	Model       string `json:"model"`
	MemoryBytes uint64 `json:"memoryBytes"`
	Task        string `json:"task,omitempty"` // the task that holds it
	Health      Health `json:"health"`
	// HealthReason says in a sentence why the device is not Healthy.
	HealthReason string `json:"healthReason,omitempty"`
}

// Health says what a device may be used for.
type Health string

// A Retiring device gets no new task, while the one that holds it may finish.
// A Sick one gets none either, and its task is terminated.
const (
	Healthy  Health = "Healthy"
	Retiring Health = "Retiring"
	Sick     Health = "Sick"
)
