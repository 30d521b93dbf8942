package spool_test

import (
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
)

// onDisk says whether a file has a place on the disk for all that it holds. Where the file
// system cannot say so the test is skipped.
func onDisk(t *testing.T, path string) bool {
	t.Helper()
	const fiemap, noPlace = 0xc020660b, 2 | 4 // FS_IOC_FIEMAP; FIEMAP_EXTENT_UNKNOWN and _DELALLOC
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var ask struct { // struct fiemap, with one extent
		start, length                  uint64
		flags, mapped, count, reserved uint32
		logical, physical, size        uint64
		reserved64                     [2]uint64
		extentFlags                    uint32
		reserved32                     [3]uint32
	}
	ask.length, ask.count = 1<<40, 1
	if _, _, err := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fiemap, uintptr(unsafe.Pointer(&ask))); err != 0 {
		t.Skipf("this file system cannot say what is on the disk: %v", err)
	}
	return ask.mapped == 1 && ask.extentFlags&noPlace == 0
}

// A document that is in the queue is on the disk, also one that a submit has left which
// was killed before it came so far.
func TestTheDocumentIsOnTheDisk(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "")
	document := func(id string) string { return filepath.Join(dir, "results", id, "task.json") }
	submit(t, s, api.Task{ID: "a"})
	if !onDisk(t, document("a")) {
		t.Error("the document of a is not on the disk")
	}
	if _, err := s.Submit(t.Context(), []*api.Task{{ID: "b", Command: "true"}, {ID: "c", Command: "true"}}); err != nil {
		t.Fatal(err)
	}
	if !onDisk(t, document("b")) || !onDisk(t, document("c")) {
		t.Error("the documents of b and c are not on the disk")
	}
	text := []byte(`{"id":"d","command":"true"}` + "\n")
	if err := os.Mkdir(filepath.Dir(document("d")), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(document("d"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	if onDisk(t, document("d")) {
		t.Skip("this file system writes at once")
	}
	submit(t, s, api.Task{ID: "d"})
	if !onDisk(t, document("d")) {
		t.Error("the document of d, which was there, is not on the disk")
	}
}
