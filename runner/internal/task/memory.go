package task

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"
)

// Where the kernel counts the processes that it ended for want of memory: those
// of this container, or, with version 1 of cgroups, all of the machine.
var memoryCounters = []string{"/sys/fs/cgroup/memory.events", "/proc/vmstat"}

// memoryKills is what the counter says; less than 0 if it cannot be read.
func memoryKills() int {
	text := buffers.Get().(*[32 << 10]byte) // /proc/vmstat is made anew for each read
	defer buffers.Put(text)
	for _, file := range memoryCounters {
		f, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		n, _ := unix.Read(f, text[:])
		unix.Close(f)
		if _, after, ok := bytes.Cut(text[:max(n, 0)], []byte("oom_kill ")); ok {
			count, _, _ := bytes.Cut(after, []byte("\n"))
			n, _ := strconv.Atoi(string(count))
			return n
		}
	}
	return -1
}
