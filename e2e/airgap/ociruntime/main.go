// Command ociruntime is runc for machines that do not grant CAP_SYS_RESOURCE:
// there, runc cannot start a privileged container, because that is asked to have
// every capability. It takes the capability out of what the container is asked
// to have, and then becomes runc. Package e2e/docker has dockerd use it.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ociruntime:", err)
		os.Exit(1)
	}
}

// run changes the file that the arguments lead to, if any, and becomes runc. It
// returns only with an error.
func run(args []string) error {
	if file := documentOf(args); file != "" {
		if err := dropCapability(file); err != nil {
			return fmt.Errorf("remove %s from %s: %w", capability, file, err)
		}
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return fmt.Errorf("find runc (install it: apt-get install runc): %w", err)
	}
	return fmt.Errorf("run %s: %w", runc, syscall.Exec(runc, append([]string{runc}, args...), os.Environ()))
}
