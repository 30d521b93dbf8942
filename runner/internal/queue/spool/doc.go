// Package spool is the queue in a directory, on a local disk or a shared one:
//
//	ready/<class>/<priority>/<bucket>/       what waits, by lanes: each bucket has
//	    <key>-<starts>-<spent>-<id>.json     some hundred entries, oldest first
//	held/<token>.both/                       held by flock while the runner, or a
//	held/<token>.both/lock                   process of the attempt, lives: both
//	held/<token>.both/owner, gpus            for people
//	held/<token>.both/tasks/                 the one task that it has fetched so
//	held/<token>.both/work/                  the attempt, and its unfinished result
//	dead/<id>.json                           api.DeadLetter
//	cancelled/<id>                           the mark of a cancelled task
//	results/<id>/task.json                   the document: its id is in use
//	results/<id>/<attempt>/                  see package result; checkpoint too
//	tmp/                                     half-made files and claims
//	submit.lock                              for submits, and what owners ask for
//	tasks/, claims/                          of runners of before, see below
//
// A task is one file, and what changes about it is in the file's name: its
// place in the lane (key, the nanosecond of its submit), how often it was
// started, how many of its runners died meanwhile (a million more starts for
// each), and how many attempts are held against it. The document itself is
// never written again. So every step of a task is one rename or one link,
//
//	Submit   results/<id>/task.json -> a bucket, as one more link
//	Fetch    a bucket -> held/<claim>/tasks/
//	Begin    held/<claim>/tasks/ -> itself, starts and deaths one up
//	Release  held/<claim>/tasks/ -> a bucket, deaths one down again
//	Retry    held/<claim>/tasks/ -> a bucket that is not looked into before the
//	         pause is over, so too, spent one up, with a new key
//
// which is atomic, has one winner, and works on a full disk. What ends a task is
// written first: its result, its dead letter, or the mark that it was cancelled.
// Then its file is removed, and whoever finds that file again knows by them what
// became of it, and by its deaths that it is not a later run of the same task.
//
// Nothing here depends on how many tasks wait: whoever fetches or submits reads the
// names of the lanes, those of the buckets of one, and one bucket.
//
// What is synced, for a task that is submitted alone, runs once and succeeds:
//
//	Submit   the document, the bucket: it is not lost
//	Fetch    nothing: after a power failure it is where it was
//	Begin    tasks/ of the claim: the number is used, and the death counted
//	Finish   result.json, what output is not empty, both directories that they are
//	         in: see package result. The end of the task's file needs no sync
//
// Many that are submitted together share one sync of the file system for their
// documents, and one for each bucket.
//
// The kernel drops the locks of a runner that dies in whatever way, once nothing of
// its attempts is left. Any other runner that can take both moves the task back and
// removes the claim. A claim has one task at most, so that one which cannot be ended
// keeps no other; a runner has as many claims as it ever had tasks at a time.
//
// Runners and submits of before know tasks/ for what waits, and claims/ without
// lanes. What they leave there is taken over; they leave alone what they do not know.
// Before they had .both, their directories are not locked, and the death of such a
// runner counts as an attempt.
package spool
