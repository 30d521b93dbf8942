//go:build !linux

package nodeimage

import "syscall"

// privateMounts does nothing: what it is for runs on Linux only.
func privateMounts(*syscall.SysProcAttr) {}
