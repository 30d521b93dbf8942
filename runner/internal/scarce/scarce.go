// Package scarce has tests run short of what a machine has, and of rights.
package scarce

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
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

// Rights has the test go on without those of root, which no mode of a file keeps out, as
// the user whose these directories are, until they are given back.
func Rights(t testing.TB, dirs ...string) (giveBack func()) {
	t.Helper()
	if os.Getuid() != 0 {
		return func() {}
	}
	const nobody = 65534
	var problem error
	for _, dir := range dirs {
		problem = errors.Join(problem, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, nobody, nobody))
		}))
		for up := filepath.Dir(dir); up != os.TempDir() && up != "/"; up = filepath.Dir(up) {
			problem = errors.Join(problem, os.Chmod(up, 0o755))
		}
	}
	runtime.LockOSThread() // whose the user is
	if err := errors.Join(problem, unix.Setfsuid(nobody)); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Setfsuid(0); err != nil {
			t.Fatal(err)
		}
		runtime.UnlockOSThread()
	}
}
