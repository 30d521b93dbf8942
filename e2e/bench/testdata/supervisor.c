// What no supervisor of an attempt could do without. A runner that is killed leaves nothing
// of an attempt, and its claim is held while something of that lives (R12, R13): so it is a
// subreaper, has the claim's file, which is 3, hears of the runner's end, and ends when
// nothing of the attempt is left. The kernel rather ends a task than its runner (R16): so it
// gives the task the score that is its first argument.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t task;

static void end(int signal) { kill(-task, signal); }

int main(int argc, char **argv, char **env)
{
	int status, failed = 1, score;
	pid_t pid;

	if (argc < 3 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || fcntl(3, F_SETFD, FD_CLOEXEC) < 0)
		return 1;
	signal(SIGTERM, end);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	task = vfork();
	if (task == 0) {
		setpgid(0, 0);
		score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
		if (write(score, argv[1], strlen(argv[1])) > 0)
			execve(argv[2], argv + 2, env);
		_exit(127);
	}
	while ((pid = wait(&status)) > 0)
		if (pid == task)
			failed = status != 0;
	return failed;
}
