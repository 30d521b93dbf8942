package main

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The spool becomes read-only while others open files of it for writing all the time,
// and is writable afterwards.
func TestReadOnlyWhileBusy(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("it mounts, so it must run as root")
	}
	a := &Arena{dir: t.TempDir()}
	spool := a.path("disk/spool")
	if err := os.Mkdir(a.path("disk"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("chaos", a.path("disk"), "tmpfs", 0, ""); errors.Is(err, unix.EPERM) {
		t.Skip("it may not mount here")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(a.path("disk"), unix.MNT_DETACH) })
	if err := os.Mkdir(spool, 0o755); err != nil {
		t.Fatal(err)
	}
	var refused atomic.Int64
	var enough atomic.Bool
	var writers sync.WaitGroup
	defer writers.Wait()
	defer enough.Store(true)
	for range 8 {
		writers.Go(func() {
			for !enough.Load() {
				f, err := os.Create(filepath.Join(spool, "file"))
				if errors.Is(err, unix.EROFS) {
					refused.Add(1)
				} else if err == nil {
					time.Sleep(100 * time.Microsecond)
					f.Close()
				}
			}
		})
	}
	for i := 0; i < 20 || i < 2000 && refused.Load() == 0; i++ {
		if err := diskReadOnly(t.Context(), a, &hit{Strike: Strike{Lasts: time.Millisecond}}); err != nil {
			t.Fatal(err)
		}
	}
	if refused.Load() == 0 {
		t.Error("nobody was refused")
	}
	if err := os.WriteFile(filepath.Join(spool, "after"), nil, 0o644); err != nil {
		t.Error(err)
	}
}
