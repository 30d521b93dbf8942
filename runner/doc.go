/*
Runner runs tasks on whole GPUs, steered by two Kubernetes ConfigMaps.

	runner serve     take tasks from the queue and run them
	runner submit    put tasks into the queue: documents, or a command after --
	runner tasks     show tasks: why they wait, where they run, how they ended
	runner logs      print what a task prints, also while it runs
	runner get       copy the files that a task has left
	runner cancel    take tasks out of the queue, and stop them where they run
	runner retry     let tasks that have ended run once more
	runner purge     remove tasks that ended long ago, with their results
	runner status    show what a runner does, or what is in a queue
	runner queue     prepare a queue in a PostgreSQL server
	runner version   print the version

# State

The global map studioml-go-runner and the node map named after ${HOSTNAME}, both
in the runner's namespace, say with one key, STATE, what the runner shall do. The
node map wins.

	Running            take tasks and run them; the default
	DrainAndTerminate  take no more tasks, finish those that run, exit
	DrainAndSuspend    take no more tasks, finish those that run, wait

Whatever is wrong with a map or with the API server, the last state that was
clear stays in force.

# Signals

SIGTERM, SIGINT and SIGHUP (unless it was ignored at the start, as by nohup)
outweigh STATE: the runner drains within --grace-period, then stops its tasks,
gives them back to the queue and exits. A second signal, a second or more after
the first, kills the tasks at once. QUIT ends the process with a dump of what it
does; no other signal that can be caught does anything.

# Exit codes

	0    drained because STATE or a limit of its own (--max-tasks, --max-idle) said so
	1    configuration or start-up error
	10   drain deadline or grace period hit; unfinished work was requeued
	11   forced by a second signal; unfinished work was requeued
	143  drained in time after a signal

# Endpoints

	/statusz             the status as JSON; ?watch=true streams every change
	/livez, /readyz      probes; ready means that the state is known
	/metrics             Prometheus metrics

They only read. At most 128 connections are held, fewer where few files may be
open, and half as many streams; a new one takes the place of the one that is idle
longest.

# Tasks

A task is a JSON or YAML document; see Task in the package api. Its process runs
in its own process group and below a supervisor, with which all ends that it has
started, and finds these variables:

	STUDIOML_TASK_ID         the task's id
	STUDIOML_TASK_ATTEMPT    1 at its first start
	STUDIOML_RUNNER          the runner's name
	STUDIOML_DRAIN_FILE      a file that exists while the runner drains
	STUDIOML_CHECKPOINT_DIR  what is in it when an attempt ends without success is
	                         there again for the next one, on whatever runner
	STUDIOML_OUTPUT_DIR      what is in it at the end is kept with the result
	CUDA_VISIBLE_DEVICES     UUIDs of its GPUs, empty for none
	NVIDIA_VISIBLE_DEVICES   the same, void for none

Exit status 75 in a drain means that the task has saved what it needs and wants to
go on later; no attempt is spent.
*/
package main
