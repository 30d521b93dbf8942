package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
)

// The spool has a file system of its own, and the runners are another user, so all
// of these need root.
var diskFaults = []fault{
	{"disk-full", "disk", true, time.Second, 3 * time.Second, diskFull},
	{"disk-inodes", "disk", true, time.Second, 3 * time.Second, diskInodes},
	{"disk-readonly", "disk", true, time.Second, 3 * time.Second, diskReadOnly},
	{"disk-hidden", "disk", true, time.Second, 3 * time.Second, diskHidden},
	{"disk-modes", "disk", true, time.Second, 3 * time.Second, diskModes},
}

// diskFull takes all room.
func diskFull(ctx context.Context, a *Arena, h *hit) error {
	path := a.path("disk/filler")
	if err := pgserver.Fill(path); err != nil {
		return err
	}
	h.last(ctx)
	return os.Remove(path)
}

// diskInodes takes all inodes.
func diskInodes(ctx context.Context, a *Arena, h *hit) error {
	dir := a.path("disk/fillers")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	first := filepath.Join(dir, "0")
	if err := os.WriteFile(first, nil, 0o644); err != nil {
		return err
	}
	for i := 1; ; i++ {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o644); err != nil {
			break
		}
	}
	h.last(ctx)
	return os.RemoveAll(dir)
}

// diskReadOnly puts a read-only view of the spool over it. Files that are open stay
// writable, as with a file system that the kernel has remounted after an error. The
// view is read-only before it is there: one through which a file is open for writing
// cannot be made so.
func diskReadOnly(ctx context.Context, a *Arena, h *hit) error {
	path := a.path("disk/spool")
	view, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(view)
	if err := unix.MountSetattr(view, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return err
	}
	if err := unix.MoveMount(view, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	h.last(ctx)
	return unix.Unmount(path, unix.MNT_DETACH)
}

// diskHidden takes the spool away, and nobody can make another one in its place.
func diskHidden(ctx context.Context, a *Arena, h *hit) error {
	if err := os.Remove(a.path("spool")); err != nil {
		return err
	}
	h.last(ctx)
	return os.Symlink(a.path("disk/spool"), a.path("spool"))
}

// diskModes takes the rights to one of the directories away.
func diskModes(ctx context.Context, a *Arena, h *hit) error {
	dirs := []string{"", "ready", "held", "work", "results", "dead", "cancelled", "tmp"}
	dir := a.path("disk/spool", dirs[h.Dice%uint64(len(dirs))])
	if err := os.Chmod(dir, os.FileMode([]uint32{0, 0o500, 0o400}[h.Dice/uint64(len(dirs))%3])); err != nil {
		return err
	}
	h.last(ctx)
	return os.Chmod(dir, 0o755)
}
