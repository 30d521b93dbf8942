package task

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Where the kernel counts the processes that it ended for want of memory: those
// of this container, or, with version 1 of cgroups, all of the machine.
var memoryCounters = []string{"/sys/fs/cgroup/memory.events", "/proc/vmstat"}

// memoryWatch remembers what the counter said; less than 0 if it could not be read.
type memoryWatch struct{ before int }

func newMemoryWatch() memoryWatch { return memoryWatch{memoryKills()} }

// ranOut says whether the kernel has ended a process since.
func (m memoryWatch) ranOut() bool { return m.before >= 0 && memoryKills() > m.before }

func memoryKills() int {
	var text [16 << 10]byte // /proc/vmstat is made anew for each read
	for _, file := range memoryCounters {
		f, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		n, _ := unix.Read(f, text[:])
		unix.Close(f)
		if _, after, ok := strings.Cut("\n"+string(text[:max(n, 0)]), "\noom_kill "); ok {
			n, _ := strconv.Atoi(strings.SplitN(after, "\n", 2)[0])
			return n
		}
	}
	return -1
}
