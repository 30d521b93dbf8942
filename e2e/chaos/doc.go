// Command chaos runs random tasks on several runners while random faults strike,
// and then proves from the tasks' own notes that the contract held: nothing lost
// (R12), nothing started after the gate had closed (R5), no exit that was not asked
// for (R6), exit codes (R9), no GPU held twice (R13), nothing left behind.
//
//	make chaos SHORT=1        # 2 minutes, 5 at most
//	make chaos                # 10,000 tasks, 500 faults
//	make chaos QUEUE=postgres # the queue in a server, which has faults of its own
//	make chaos SEED=7         # the same plan again
//	make chaos KINDS=kill,api # only faults whose name begins so
//
// The plan (plan.go) is a function of the seed. The arena (arena.go, runner.go) is a
// control plane, a queue (queue.go) on a file system of its own, and runners that are started
// again as a Job would. Faults (faults.go and its like) strike in lanes, one at a
// time in each. What happened becomes a Record (record.go), and Check (check.go), a
// pure function, says which clause it breaks. README.md has the track record.
//
// The clocks are not stepped: this system's clock is everybody's, and Linux has
// no namespace for it.
package main
