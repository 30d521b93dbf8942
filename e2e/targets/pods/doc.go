// Package pods is the target whose runners are pods: on a kind cluster that the
// suite made, or on a cluster that somebody owns.
//
// A scenario has a namespace, a volume and, when it first needs it, a pod called
// keeper that has both the volume and the runner's image: through it tasks are
// submitted, the queue is read, the journal is followed. Runners are made from
// the pod of the shipped Job; beside each one, in the same pod, runner status
// --watch writes down what it says from its first word on. Whatever the harness
// reads, it reads from logs and from the journal, which are still there after a
// broken connection.
//
// The volume holds spool (the queue), release (files that held tasks wait for),
// journal (what tasks note) and gpus (the state of fake GPUs).
package pods
