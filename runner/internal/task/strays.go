package task

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
)

// straysLimit is how long endStrays waits for processes that KILL does not end
// at once, because they hang in a driver.
const straysLimit = time.Second

// endStrays ends the processes of an attempt that have left its group, as
// daemons do. They are known by their environment, which a child inherits
// wherever it goes: no other attempt has the same drain file, task and number.
// One that was started with another environment is not found; only a cgroup
// would hold that, and a pod may not make any.
func endStrays(spec Spec) {
	if spec.DrainFile == "" {
		return // then other attempts may look the same
	}
	marks := [][]byte{
		mark(api.EnvDrainFile, spec.DrainFile), mark(api.EnvTaskID, spec.Task.ID),
		mark(api.EnvTaskAttempt, strconv.Itoa(spec.Attempt)),
	}
	killed := make(map[int]bool)
	for end := time.Now().Add(straysLimit); ; time.Sleep(time.Millisecond) {
		strays := findStrays(marks)
		for _, pid := range strays {
			unix.Kill(pid, unix.SIGKILL)
			killed[pid] = true
		}
		// They are this process's children where it is the first of a container.
		for pid := range killed {
			if ended, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); ended == pid || err == unix.ECHILD {
				delete(killed, pid)
			}
		}
		if len(strays) == 0 && len(killed) == 0 || time.Now().After(end) {
			return
		}
	}
}

func mark(name, value string) []byte { return []byte("\x00" + name + "=" + value + "\x00") }

// findStrays lists the living processes whose environment has all the marks. A
// process that has ended, or is another user's, shows none.
func findStrays(marks [][]byte) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
next:
	for _, file := range files {
		environ, _ := os.ReadFile(file)
		environ = append([]byte{0}, environ...)
		for _, m := range marks {
			if !bytes.Contains(environ, m) {
				continue next
			}
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
