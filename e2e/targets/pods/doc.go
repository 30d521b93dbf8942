// Package pods is the target whose runners are pods: on a kind cluster that the
// suite made, or on a cluster that somebody owns.
//
// A scenario has a namespace, and a database of a PostgreSQL server for its queue,
// which the suite reaches through a forwarded port. Runners are made from the pod of
// the shipped Job. Beside each one, in the same pod, a container writes down what it
// says from its first word on, and what its tasks note. Whatever the harness reads, it
// reads from logs, which are still there after a broken connection.
//
// Where a scenario submits nothing, a runner has an empty directory for its queue, nothing
// is beside it, and it is heard through the API server: as two thirds of the scenarios do
// not need more, they have what takes a cluster least.
//
// A directory of the pod has what a scenario's tasks and its container share: journal
// (a named pipe), release-GROUP (files that held tasks wait for) and gpus (the state of
// fake GPUs).
package pods
