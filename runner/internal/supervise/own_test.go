package supervise_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/internal/supervise"
)

// Of all that the kernel answers, only what names the program is the program's own.
func TestWhoseFaultItIs(t *testing.T) {
	own := map[syscall.Errno]bool{
		unix.ENOENT: true, unix.EACCES: true, unix.EPERM: true, unix.ENOEXEC: true, unix.ENOTDIR: true, unix.EISDIR: true,
		unix.ELOOP: true, unix.ENAMETOOLONG: true, unix.E2BIG: true, unix.ELIBBAD: true, unix.EINVAL: true, unix.ETXTBSY: true,
	}
	for errno := syscall.Errno(1); errno < 134; errno++ {
		if got := supervise.Own(fmt.Errorf("x: %w", errno)); got != own[errno] {
			t.Errorf("%v: the program's own is %t, want %t", errno, got, own[errno])
		}
	}
	if !supervise.Own(errors.New("is a directory")) {
		t.Error("what no call of the kernel said is the machine's")
	}
}
