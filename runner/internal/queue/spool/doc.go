// Package spool is the queue in a directory, on a local disk or a shared one:
//
//	tasks/<key>-<starts>-<spent>-<id>.json   ready, oldest first by name
//	claims/<token>/lock                      held by flock while the runner lives
//	claims/<token>/owner                     the runner's name, for people
//	claims/<token>/tasks/                    what that runner has fetched
//	claims/<token>/work/                     where it keeps unfinished results
//	claims/<token>/tmp/                      its half-written files
//	dead/<id>.json                           api.DeadLetter
//	results/                                 see package result
//	tmp/                                     half-made files and claims
//	submit.lock                              held for the moment of a submit
//
// A task is one file, and what changes about it is in the file's name: its
// place in the queue (key, the nanosecond of its submit), how often it was
// started, and how many attempts are held against it. The document itself is
// never written again. So every step of a task is one rename,
//
//	Submit   tmp/ -> tasks/
//	Fetch    tasks/ -> claims/<token>/tasks/
//	Begin    claims/<token>/tasks/ -> itself, starts and spent one up
//	Release  claims/<token>/tasks/ -> tasks/, spent one down again
//	Retry    claims/<token>/tasks/ -> tasks/, with a new key
//
// which is atomic, has one winner, and works on a full disk. Only Bury has to
// write something: the dead letter, before the task's file is removed.
//
// The kernel drops the lock of a runner that dies in whatever way. Any other
// runner that can take the lock moves the tasks back and removes the claim.
package spool
