//go:build !linux

package docker

import (
	"context"
	"errors"
	"syscall"
)

const capSysResource = 24

func hasCapability(string, uint) bool { return true }

// cannotStart says why this process cannot start a daemon.
func cannotStart() string { return "this system is not Linux" }

func dieWithParent(*syscall.SysProcAttr) {}

func dataRoot() (string, error) { return "", errors.ErrUnsupported }

func buildRuntime(context.Context) (string, error) { return "", errors.ErrUnsupported }
