package scenario

// Row is the number of a row of the catalogue (contract, section 4).
type Row int

// MaxRow is the last one.
const MaxRow Row = 85

// Entry is one row of the catalogue.
type Entry struct {
	Number Row
	// Part is the heading that the row stands under.
	Part string
	// Title says in a few words what is shown.
	Title string
}

// Catalogue is all of them, in order.
var Catalogue = catalogue([]part{
	{"One map", 1, []string{
		"Running at start: tasks are pulled",
		"suspended at start: no task is ever pulled",
		"terminated at start: no task, exit 0",
		"Running to Suspend while idle",
		"Running to Suspend with n tasks in flight: exactly n finish, the rest stays",
		"Suspended to Running: the same process pulls again",
		"Running to Terminate while idle",
		"Running to Terminate while busy: the tasks finish, then exit 0",
		"Suspended to Terminate",
		"Terminate to Running before the end: cancelled, no later exit",
		"Terminate to Suspend in the middle of a drain",
		"Suspend to Terminate in the middle of a drain",
		"two flips within one drain",
		"100 flips a second for 10 s end at the last value",
		"a change of a label, an annotation or another key is no transition",
	}},
	{"Precedence", 16, []string{
		"all pairs of 7 values of the global and the node map at start",
		"each change of one map between the pairs of 4 values (96 transitions)",
		"node map suspends one runner, the others run",
		"node map Running under a global Suspend",
		"node map Running under a global Terminate",
		"node map Terminate under a global Running: only this runner exits",
		"the global map changes under a node map: no effect, the shadowed value is reported",
		"the node map is deleted: the global one counts",
		"the node map is created after the start, and later loses its key",
		"neither the order of events nor that of names counts",
		"listing anew and replayed events are no transition",
		"HOSTNAME overridden, unset, or not a legal name",
		"host network: HOSTNAME is the name of the Kubernetes node",
		"a map of the right name in another namespace is ignored",
	}},
	{"Values", 30, []string{
		"white space around the value, as --from-file leaves it",
		"wrong case, unknown words, true, 0",
		"STATE: off without quotes is refused by the API server",
		"1 MiB values, NUL, escape sequences and newlines do no harm",
		"an immutable map is deleted and created anew",
		"the admission policy refuses a typo and says why",
	}},
	{"API server", 36, []string{
		"watches closed every few seconds: no flap, no missed change",
		"down while running, suspended and draining",
		"down at the start",
		"a change made during the outage is seen afterwards",
		"permissions revoked and restored",
		"permissions missing at start: the log says what to grant",
		"global map readable, node map forbidden",
		"the shipped Roles suffice",
		"10,000 unrelated ConfigMaps change: flat memory, same latency",
	}},
	{"Draining", 45, []string{
		"a fetch is under way when the state flips",
		"fetched and waiting for a GPU: given back at once",
		"a task that fails in a drain is requeued, and not taken again by this runner",
		"the drain's deadline: TERM, KILL of the group, requeue, exit 10",
		"the runner is killed in the middle of a task: the task runs again",
		"SIGTERM in every state, and a second one",
		"the queue cannot be reached during a drain",
	}},
	{"Kubernetes", 52, []string{
		"Indexed Job: node maps by index, exit 0 completes an index",
		"Deployment: park means no restart, exit means restarts without tasks",
		"rollout and scale-up while suspended",
		"pods deleted by force, rollout restart: nothing is lost",
		"one Event for each transition; forbidden Events do no harm",
		"the reference document's cluster-admin binding",
	}},
	{"GPUs", 58, []string{
		"the inventory equals what the kubelet gave",
		"two tasks never share a GPU, and no fragment is left",
		"Xid 79, ECC errors and lost GPUs while idle, busy and draining",
		"no NVML: a runner for the CPU only",
	}},
	{"API server, further", 62, []string{
		"packets are dropped, while watching and at start",
		"429 and 503 with Retry-After, heads that come late",
		"WatchList off: no false warning",
		"the token is rotated, expires, is revoked",
		"a map with a finalizer stays in force; all objects of the namespace deleted: nothing starts",
		"both maps applied in one file, in either order: no runner exits for a state in between",
	}},
	{"Machines", 68, []string{
		"descriptors, processes, threads used up: no attempt is spent",
		"disk and inodes full, by a task and by others",
		"the reader of the log is gone, or asleep",
		"daemons, setsid, an emptied environment: nothing outlives its attempt, nor a SIGKILL of the runner",
		"the kill delay is the whole group's",
		"two runners on one machine never share a GPU",
		"exit within the budget, whatever cannot be ended",
	}},
	{"Queue and tasks", 75, []string{
		"rows 1 to 13, 45 to 51 and 77 to 80 on PostgreSQL as on the spool",
		"its server killed, stopped, cut off, full, failed over to a standby",
		"a claim is lost: the task is stopped, its late result refused",
		"interrupted by a drain, continued elsewhere from its checkpoint",
		"cancel, retry, expire, priority, a pause before retries",
		"--max-tasks, --max-idle",
	}},
	{"Operators", 81, []string{
		"conditions and labels of the own pod, and of no other's",
		"annotations: reason, deadline changed in the middle of a drain",
		"drain --wait ends when every runner has acted on that version, not before",
		"busy runners are not evicted by choice, idle ones are",
		"exit codes with restart rules",
	}},
})

// part is a heading of the catalogue, with its rows from first on.
type part struct {
	name   string
	first  int
	titles []string
}

func catalogue(parts []part) []Entry {
	var rows []Entry
	for _, p := range parts {
		for i, title := range p.titles {
			rows = append(rows, Entry{Row(p.first + i), p.name, title})
		}
	}
	return rows
}
