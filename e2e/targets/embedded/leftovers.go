package embedded

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// killLeftovers kills every process whose TMPDIR is below the directory dir, and waits until there is none: tasks live on when their runner
// is killed. On a system without /proc it finds none.
func killLeftovers(ctx context.Context, dir string) error {
	return place.Poll(ctx, func() error {
		left := processesOf(dir)
		if len(left) == 0 {
			return nil
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // gone already is as well
		}
		return fmt.Errorf("processes %v of %s do not end", left, dir)
	})
}

// processesOf returns the processes that were started with a TMPDIR below dir. Only
// runners are given it, and it has a random name. Other variables are for people,
// too: a KUBECONFIG in another terminal is below dir as well.
func processesOf(dir string) []int {
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil
	}
	var found []int
	for _, file := range files {
		// Other people's processes cannot be read, and dead ones have nothing in it.
		environ, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(environ, []byte("TMPDIR="+dir+"/")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && pid != os.Getpid() {
			found = append(found, pid)
		}
	}
	return found
}
