// Go's monitor looks every 20 µs whether the system call of another thread goes on,
// which costs a short task as much as its fsyncs do. Where one waits longer than this
// nobody minds. A thread gets its timer slack from its maker, so it is set before there
// is any other; the supervisor has the usual one again, and with it the task.
#include <sys/prctl.h>

enum { usual_slack = 50000, patient_slack = 500000 }; // ns, as in supervisor/main.c

__attribute__((constructor)) static void be_patient(void)
{
	if (prctl(PR_GET_TIMERSLACK) == usual_slack)
		prctl(PR_SET_TIMERSLACK, patient_slack);
}
