// Package spool is the queue in a directory, on a local disk or a shared one:
//
//	ready/<bucket>/<entry>         what waits: each bucket has some hundred entries
//	held/<claim>.lock              locked by flock while the runner, or a process of
//	                               the attempt, lives; says for people whose it is
//	held/<claim>-<entry>           the one task of the claim
//	work/<claim>/attempt/          its attempt, and the unfinished result of that
//	dead/<id>.json                 api.DeadLetter
//	cancelled/<id>                 the mark of a cancelled task
//	results/<id>/task.json         the document: its id is in use
//	results/<id>/retried.json      its dead letter from before the last retry
//	results/<id>/<attempt>/        see package result; checkpoint too
//	runners/                       what runners offer, see offers.go
//	tmp/                           half-made files, and what is being removed
//	submit.lock                    for submits, and what owners ask for
//
// A task is one file, and all that the queue needs to know of it is in the file's
// name: priority, class, its place among those of its priority, how often it was
// started, how many of its runners died meanwhile, how many attempts are held against
// it, and when it expires. Names sort in the order in which the tasks start. The
// document itself is never written again. So every step of a task is one rename or
// one link,
//
//	Submit   results/<id>/task.json -> a bucket, as one more link
//	Fetch    a bucket -> held/
//	Begin    held/ -> itself, starts and deaths one up
//	Release  held/ -> its bucket, deaths one down again
//	Retry    held/ -> a bucket that is not looked into before the pause is over, so
//	         too, spent one up
//
// which is atomic, has one winner, and works on a full disk. What ends a task is
// written first: its result, its dead letter, or the mark that it was cancelled.
// Then its file is removed, and whoever finds that file again knows by them what
// became of it, and by its deaths that it is not a later run of the same task. The
// number of the document's links says whether it is in the queue.
//
// Nothing here depends on how many tasks wait: whoever fetches reads the names of the
// buckets and of one of them, whoever submits neither. Only a list, or a retry of what
// was cancelled, reads all that waits.
//
// What is synced, for a task that is submitted alone, runs once and succeeds:
//
//	Submit   the document, the bucket: it is not lost
//	Fetch    nothing: after a power failure it is where it was
//	Begin    held/: the number is used, and the death counted
//	Finish   result.json, what output is not empty, both directories that they are
//	         in: see package result. The end of the task's file needs no sync
//
// Many that are submitted together share one sync of the file system for their
// documents, and one for each bucket.
//
// The kernel drops the locks of a runner that dies in whatever way, once nothing of
// its attempts is left. Any other runner that can take one moves the task back and
// removes the claim. A claim has one task at most, so that one which cannot be ended
// keeps no other; a runner has as many claims as it ever had tasks at a time.
//
// Versions share a spool during a rolling upgrade. A document in ready/ was good for the
// version that submitted it: who does not understand it, or its name, leaves it there for
// who does, and says so once. Only what is no JSON, or not the task that its name says, is
// buried. So a later version may add fields and values to documents, and kinds of names.
package spool
