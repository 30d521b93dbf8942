// Command ociruntime is runc for machines that do not grant CAP_SYS_RESOURCE:
// there, runc cannot start a privileged container, because that is asked to have
// every capability. It takes the capability out of what the container is asked
// to have, and then becomes runc. Package docker has dockerd use it.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
			return fmt.Errorf("remove CAP_SYS_RESOURCE from %s: %w", file, err)
		}
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return fmt.Errorf("find runc (install it: apt-get install runc): %w", err)
	}
	return fmt.Errorf("run %s: %w", runc, syscall.Exec(runc, append([]string{runc}, args...), os.Environ()))
}

// documentOf returns the JSON file that says which capabilities the process of a
// runc command gets, or "" if the command starts none. Options are spelled as by
// those who call runc for Docker.
func documentOf(args []string) string {
	for i := 1; i < len(args); i++ {
		switch args[i-1] {
		case "--bundle":
			return filepath.Join(args[i], "config.json")
		case "--process":
			return args[i]
		}
	}
	return ""
}

// capability is the one that is removed, with one of the commas beside it.
var capability = regexp.MustCompile(`"CAP_SYS_RESOURCE"\s*,|,?\s*"CAP_SYS_RESOURCE"`)

// dropCapability removes it from all lists of a document.
func dropCapability(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, capability.ReplaceAll(data, nil), 0o600) // the file is there: its mode stays
}
