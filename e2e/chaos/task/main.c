// A task of the suite. It notes its start and its end, each with fsync, in a
// directory outside of everything under test. While it and what it leaves behind
// live, it holds a lock for its ID and one for each of its GPUs: so it is the
// kernel, and no clock, that sees when two have the same.
//
//	task DIRECTORY KIND MILLISECONDS FAILS
//
// Its first FAILS attempts end with status 1.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { cannot_note = 70, chunk = 64 << 10, disk = 6 << 20, memory = 48 << 20, children = 24 };

static const char *id, *attempt, *runner, *dir;
static int journal;

static const char *variable(const char *name)
{
	const char *value = getenv(name);
	return value && *value ? value : "-";
}

static void note(const char *what, const char *rest)
{
	char line[1024];
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	int n = snprintf(line, sizeof line, "%s %lld %s %s %s %s\n", what, t.tv_sec * 1000000000LL + t.tv_nsec, id, attempt, runner, rest);
	// One write to a file opened for appending, so that lines do not mix.
	if (n >= (int)sizeof line || write(journal, line, n) != n || fsync(journal) < 0)
		_exit(cannot_note);
}

// What is started below inherits the lock.
static void hold(const char *what)
{
	char path[512];
	snprintf(path, sizeof path, "%s/locks/%s", dir, what);
	umask(0);
	int f = open(path, O_RDWR | O_CREAT, 0666);
	if (f < 0)
		_exit(cannot_note);
	if (flock(f, LOCK_EX | LOCK_NB) < 0)
		note("held", what);
}

static void wait_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&t, NULL);
}

static void stay(void)
{
	for (;;)
		pause();
}

static void daemonise(void)
{
	pid_t first = fork();
	if (first == 0) {
		setsid();
		if (fork() == 0) {
			clearenv();
			stay();
		}
		_exit(0);
	}
	waitpid(first, NULL, 0);
}

static void fill_disk(void)
{
	static char zeros[chunk];
	int f = open("big", O_WRONLY | O_CREAT, 0644);
	for (int i = 0; i < disk / chunk && write(f, zeros, chunk) == chunk; i++)
		;
}

static void fill_memory(void)
{
	char *p = malloc(memory);
	if (p)
		memset(p, 1, memory);
}

static void fill_processes(void)
{
	for (int i = 0; i < children; i++)
		if (fork() == 0)
			stay();
}

int main(int argc, char **argv)
{
	// Limits are lowered under a runner that runs; the suite's own notes must not fail by that.
	for (int i = 0; i < 2; i++) {
		struct rlimit l;
		getrlimit(i ? RLIMIT_NOFILE : RLIMIT_NPROC, &l);
		l.rlim_cur = l.rlim_max;
		setrlimit(i ? RLIMIT_NOFILE : RLIMIT_NPROC, &l);
	}
	if (argc != 5)
		return 64;
	dir = argv[1];
	id = variable("STUDIOML_TASK_ID"), attempt = variable("STUDIOML_TASK_ATTEMPT"), runner = variable("STUDIOML_RUNNER");
	char path[512];
	snprintf(path, sizeof path, "%s/journal", dir);
	if ((journal = open(path, O_WRONLY | O_APPEND)) < 0)
		return cannot_note;
	const char *kind = argv[2], *gpus = variable("CUDA_VISIBLE_DEVICES");
	if (strcmp(kind, "deaf") == 0)
		signal(SIGTERM, SIG_IGN);
	hold(id);
	note("start", gpus);
	char *list = strdup(gpus);
	for (char *g = strtok(list, ","); g && *gpus != '-'; g = strtok(NULL, ","))
		hold(g);
	if (strcmp(kind, "daemon") == 0)
		daemonise();
	else if (strcmp(kind, "disk") == 0)
		fill_disk();
	else if (strcmp(kind, "memory") == 0)
		fill_memory();
	else if (strcmp(kind, "processes") == 0)
		fill_processes();
	wait_ms(atol(argv[3]));
	int fails = atoi(attempt) <= atoi(argv[4]);
	note("end", fails ? "1" : "0");
	return fails;
}
