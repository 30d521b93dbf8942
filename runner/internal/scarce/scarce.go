// Package scarce has tests run short of what a machine has.
package scarce

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Descriptors takes all descriptors of this process but some, until they are given back.
// Nothing else of the test may open files meanwhile.
func Descriptors(t testing.TB, free int) (giveBack func()) {
	t.Helper()
	var before unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before)
	if err == nil {
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 128, Max: before.Max})
	}
	var taken []int
	for err == nil {
		var fd int
		if fd, err = unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			taken = append(taken, fd)
		}
	}
	if err != unix.EMFILE || len(taken) < free {
		t.Fatalf("%d descriptors are taken, and %d wanted: %v", len(taken), free, err)
	}
	for _, fd := range taken[:free] {
		unix.Close(fd)
	}
	return func() {
		for _, fd := range taken[free:] {
			unix.Close(fd)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
	}
}
