package nodeimage

import "syscall"

// privateMounts gives a program mounts of its own, so that none is left of one
// that is killed.
func privateMounts(attr *syscall.SysProcAttr) { attr.Unshareflags = syscall.CLONE_NEWNS }
