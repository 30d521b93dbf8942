// The supervisor of one attempt; see doc.go for what it promises.
//
//	argv  name, kill delay in ms, signals that are ignored, directory, program, the
//	      task's own argv
//	env   the task's
//	0-2   the task's; 3 is the runner; 4 and 5 are what is behind 1 and 2, to read from;
//	      6 is this program; what follows are locks, held by being open
//
// To the runner, three numbers a message: 's' errno pid, the start; 'e' status
// asked, the end of the task's process, and whether that was asked for before, if
// something is left then; 'u' pid 0, a process that does not end; 'd' status asked,
// nothing is left.
// From it, a byte: 't' for TERM and, after the delay, KILL; 'k' for KILL. Its death,
// which is the end of the socket, means 't'.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { runner = 3, greedier = 200, stuck_ms = 1000, usual_slack = 50000, patient_slack = 500000 };

static volatile int stage_errno; // written by the child, which shares the memory until its exec
static pid_t stuck;              // a process that KILL did not reach or did not end
static int output[2] = { 4, 5 }; // the pipes of the output, to read from

static void tell(int kind, int a, int b)
{
	int message[3] = { kind, a, b };
	send(runner, message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

// Without the library, which for a single look finds and maps what makes many fast.
static long now_ms(void)
{
	struct timespec t;
	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void nothing(int signal) { (void)signal; }

// The kernel rather ends the task than the runner and its supervisors.
static void raise_oom_score(void)
{
	char text[16] = "";
	int f = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	if (f >= 0 && read(f, text, sizeof text - 1) > 0) {
		int score = atoi(text) + greedier;
		int n = snprintf(text, sizeof text, "%d", score > 1000 ? 1000 : score);
		(void)!pwrite(f, text, n, 0); // else it is as likely to be chosen as the runner
	}
}

// Only the child, after vfork. A directory that cannot be entered is told from a
// program that cannot be run by its sign.
static void become(char **argv, char **env)
{
	static const long standard[4]; // signal() refuses two signals, which make leaves ignored
	unsigned long ignored = strtoul(argv[2], NULL, 16);
	sigset_t none;
	setpgid(0, 0);
	raise_oom_score();
	// The task may not trace what supervises it, from its first moment on: the mark is
	// the shared memory's, and the program's own has it no more.
	prctl(PR_SET_DUMPABLE, 0);
	for (int s = 1; ignored; s++, ignored >>= 1)
		if (ignored & 1)
			syscall(SYS_rt_sigaction, s, standard, NULL, sizeof(long));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (syscall(SYS_close_range, 3U, ~0U, 0U) < 0)
		for (int f = 3; f < 4096; f++)
			close(f);
	if (chdir(argv[3]) < 0)
		stage_errno = -errno;
	else if (execve(argv[4], argv + 5, env) < 0)
		stage_errno = errno;
	_exit(127);
}

// Signals what is below a process, in whatever group and session, but for one group.
static void signal_below(pid_t pid, int sig, pid_t but)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/task", pid);
	DIR *threads = opendir(path);
	for (struct dirent *d; threads && (d = readdir(threads));) {
		snprintf(path, sizeof path, "/proc/%d/task/%.16s/children", pid, d->d_name);
		FILE *children = d->d_name[0] == '.' ? NULL : fopen(path, "re");
		for (int child; children && fscanf(children, "%d", &child) == 1;) {
			signal_below(child, sig, but);
			if (getpgid(child) != but && kill(child, sig) < 0 && errno == EPERM)
				stuck = child;
			stuck = stuck ? stuck : child;
		}
		if (children)
			fclose(children);
	}
	if (threads)
		closedir(threads);
}

// Starts the task. The child shares the memory until its exec.
static pid_t start(char **argv, char **env)
{
	pid_t task = vfork();
	if (task == 0)
		become(argv, env);
	int failed = task < 0 ? -errno : stage_errno;
	for (int f = 0; f < 3; f++)
		close(f); // so that the output ends with the task
	tell('s', failed, task);
	return task;
}

// Without the runner nobody reads the output. A task that uses its time for its
// last work may write meanwhile.
static void discard(int *f)
{
	static char text[4096]; // on the stack it would cost each attempt a page
	ssize_t n;
	while ((n = read(*f, text, sizeof text)) > 0)
		;
	if (n == 0 || errno != EAGAIN)
		*f = -1;
}

int main(int argc, char **argv, char **env)
{
	enum { runs, asked, killed } state = runs;
	int hears = 1, told = 0, pause = 1, status, end = 0, asked_for = 0, ended = 0;
	long until = 0; // in asked, when KILL comes; in killed, when a process is stuck
	sigset_t signals;
	pid_t pid;

	if (argc < 6)
		return 1;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_PDEATHSIG, SIGCONT); // its task may have stopped it, and nobody else be there
	if (prctl(PR_GET_TIMERSLACK) == patient_slack) // the runner's own; see patience.c
		prctl(PR_SET_TIMERSLACK, usual_slack);
	sigfillset(&signals);
	sigprocmask(SIG_SETMASK, &signals, NULL);
	sigdelset(&signals, SIGCHLD); // which comes only while ppoll waits
	signal(SIGCHLD, nothing);
	pid_t task = start(argv, env);
	for (;;) {
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (pid == task) {
				ended = 1, end = status, asked_for = state != runs;
				if (state == runs)
					state = killed, until = now_ms() + stuck_ms;
			}
		if (pid < 0 && errno == ECHILD)
			break;
		if (ended)
			tell('e', end, asked_for), ended = 0;
		long wait = until - now_ms();
		if (state == asked && wait <= 0)
			state = killed, until = now_ms() + stuck_ms;
		if (state == killed) {
			stuck = 0;
			signal_below(getpid(), SIGKILL, -1);
			if (stuck && !told && now_ms() >= until)
				tell('u', stuck, 0), told = 1;
			wait = pause;
			pause = pause < 500 ? pause * 2 : 1000;
		}
		struct pollfd p[] = {
			{ hears ? runner : -1, POLLIN, 0 }, { hears ? -1 : output[0], POLLIN, 0 }, { hears ? -1 : output[1], POLLIN, 0 },
		};
		struct timespec t = { wait / 1000, wait % 1000 * 1000000 };
		if (ppoll(p, 3, state == runs ? NULL : &t, &signals) <= 0)
			continue;
		for (int i = 0; i < 2; i++)
			if (p[i + 1].revents)
				discard(&output[i]);
		char order = 0;
		if (p[0].revents && recv(runner, &order, 1, MSG_DONTWAIT) <= 0)
			hears = 0, order = 't';
		if (order == 't' && state == runs) {
			state = asked, until = now_ms() + atol(argv[1]);
			signal_below(getpid(), SIGTERM, task);
			kill(-task, SIGTERM);
		}
		if (order == 'k' && state != killed)
			state = killed, until = now_ms() + stuck_ms;
	}
	tell('d', end, asked_for);
	return 0;
}
