package supervise

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// make compiles main.c to supervisor beside it, which git does not have, and adds
// the digest of its source.
//
//go:embed supervisor
var files embed.FS

// program makes the supervisor a file that children of this process may be given. It is
// in memory: a root file system may be read-only, and /tmp mounted noexec.
func program() error {
	memory.Lock()
	defer memory.Unlock()
	if memory.file != nil {
		return nil
	}
	source, _ := files.ReadFile("supervisor/main.c")
	code, _ := files.ReadFile("supervisor/supervisor." + runtime.GOARCH)
	if digest := sha256.Sum256(source); !bytes.HasSuffix(code, fmt.Appendf(nil, "%x\n", digest)) {
		var err error
		if code, err = compile(source); err != nil {
			return fmt.Errorf("this runner was built without its supervisor, and it cannot be built now: %w; build it with make", err)
		}
	}
	fd, err := unix.MemfdCreate("supervisor", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if err == unix.EINVAL { // a kernel before 6.3 has no MFD_EXEC, and needs none
		fd, err = unix.MemfdCreate("supervisor", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return fmt.Errorf("make room for the supervisor: %w", err)
	}
	file := os.NewFile(uintptr(fd), "supervisor")
	if _, err := file.Write(code); err != nil {
		file.Close()
		return fmt.Errorf("write the supervisor: %w", err)
	}
	memory.file = file
	return nil
}

// memory is where the supervisor is, for as long as this process lives; what was
// refused once may be granted later.
var memory struct {
	sync.Mutex
	file *os.File
}

// compile is for go build and go test without make, where gcc is.
func compile(source []byte) ([]byte, error) {
	dir, err := os.MkdirTemp("", "supervisor-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "supervisor")
	gcc := exec.Command("gcc", "-std=gnu11", "-Os", "-static", "-s", "-Wl,-z,noseparate-code,-z,norelro", "-x", "c", "-o", path, "-")
	gcc.Stdin = bytes.NewReader(source)
	if text, err := gcc.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("gcc: %w: %s", err, text)
	}
	return os.ReadFile(path)
}
