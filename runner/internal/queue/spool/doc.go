// Package spool is the queue in a directory, on a local disk or a shared one:
//
//	tasks/<key>-<starts>-<spent>-<id>.json   ready, oldest first by name
//	claims/<token>.both/                     held by flock while the runner, or a
//	claims/<token>.both/lock                 process of the attempt, lives: both
//	claims/<token>.both/owner                the runner's name, for people
//	claims/<token>.both/tasks/               the one task that it has fetched so
//	claims/<token>.both/work/                the attempt, and its unfinished result
//	dead/<id>.json                           api.DeadLetter
//	results/                                 see package result
//	tmp/                                     half-made files and claims
//	submit.lock                              held for the moment of a submit
//
// A task is one file, and what changes about it is in the file's name: its
// place in the queue (key, the nanosecond of its submit), how often it was
// started, how many of its runners died meanwhile (a million more starts for
// each), and how many attempts are held against it. The document itself is
// never written again. So every step of a task is one rename,
//
//	Submit   tmp/ -> tasks/
//	Fetch    tasks/ -> claims/<claim>/tasks/
//	Begin    claims/<claim>/tasks/ -> itself, starts and deaths one up
//	Release  claims/<claim>/tasks/ -> tasks/, deaths one down again
//	Retry    claims/<claim>/tasks/ -> tasks/, so too, spent one up, with a new key
//
// which is atomic, has one winner, and works on a full disk. Only Bury has to
// write something: the dead letter, before the task's file is removed.
//
// The kernel drops the locks of a runner that dies in whatever way, once nothing of
// its attempts is left. Any other runner that can take both moves the task back and
// removes the claim. A claim has one task at most, so that one which cannot be ended
// keeps no other; a runner has as many claims as it ever had tasks at a time.
//
// Runners of before had one claim for all their tasks, without .both, whose
// directory is not locked; the death of such a runner counts as an attempt. They
// take these claims back by the lock of the file alone.
package spool
