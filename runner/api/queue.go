package api

// QueueContents is what a queue holds at one moment.
type QueueContents struct {
	Ready   []QueuedTask `json:"ready"`
	Claimed []QueuedTask `json:"claimed"`
	Dead    []DeadLetter `json:"dead"`
	// Finished are the ids of the tasks that have a result with outcome Succeeded.
	Finished []string `json:"finished"`
}

// QueuedTask is a task that is in the queue.
type QueuedTask struct {
	ID     string `json:"id"`
	Starts int    `json:"starts"`           // how often it was started
	Spent  int    `json:"spent"`            // attempts that count against it
	Runner string `json:"runner,omitempty"` // who has claimed it
}
