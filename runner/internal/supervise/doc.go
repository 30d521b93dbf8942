// Package supervise starts programs so that nothing of them is left when they are
// said to have ended, whatever they do to get away.
//
// Each gets a supervisor, a small C program: a session leader and subreaper that
// starts the task in a group of its own, and hears from the runner through a
// socket. What the kernel guarantees:
//
//   - A process whose parent ends becomes a child of the nearest living subreaper
//     above it. So daemons, with a session and an environment of their own, stay
//     below the supervisor, and what the supervisor has no child of is gone.
//   - The end of the socket is the runner's death, whatever ended it, and no
//     program can undo it, as setuid ones undo PR_SET_PDEATHSIG. The supervisor
//     then ends the attempt as if the runner had asked for it.
//   - A lock of flock is held for as long as one process has the open file. The
//     supervisor has those of the claim and of the GPUs, the task has not. So they
//     are held exactly as long as something of the attempt lives.
//   - A child that nobody has waited for keeps its ID, so no signal goes astray.
//
// What it does not:
//
//   - A task of the same user can end its supervisor. The runner is a subreaper as
//     well: it ends what comes to it then, and the attempt failed. If the runner
//     is ended in the same moment, nobody is left to do so, but for the end of the
//     container.
//   - The children of a process are listed in /proc (CONFIG_PROC_CHILDREN, which
//     distributions set). Without it only the task's own group is ended, and the
//     supervisor waits for the rest.
//   - KILL does not reach another user's processes, as of setuid programs, nor end
//     at once what hangs in a driver. Then the supervisor goes on, and the locks
//     with it, also past the end of the runner; the runner says so once.
//   - Work that a task hands to a service (cron, systemd-run, at, a container
//     engine) is no descendant of it.
package supervise
