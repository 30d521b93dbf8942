package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/controlplane"
)

// What is missing is said with what to do about it.
func TestPrograms(t *testing.T) {
	t.Setenv("KUBEBUILDER_ASSETS", "")
	if _, err := controlplane.Programs(); err == nil || !strings.Contains(err.Error(), "run this with make") {
		t.Errorf("error without a directory is %v", err)
	}
	dir := t.TempDir()
	t.Setenv("KUBEBUILDER_ASSETS", dir)
	for _, program := range []string{"etcd", "kube-apiserver"} {
		if _, err := controlplane.Programs(); err == nil || !strings.Contains(err.Error(), "it has no "+program) {
			t.Errorf("error without %s is %v", program, err)
		}
		if err := os.WriteFile(filepath.Join(dir, program), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := controlplane.Programs(); err != nil || got != dir {
		t.Errorf("got %q, %v, want %q", got, err, dir)
	}
}

// A program that ends is heard of at once, with its last words; one that hangs, when the
// caller has no more time. Nothing stays of either.
func TestControlPlaneThatDoesNotStart(t *testing.T) {
	for server, says := range map[string]string{
		"echo there is no such flag; %s; exit 1": "kube-apiserver has ended",
		"echo I wait; %s; exec sleep 600":        "it was too slow",
	} {
		t.Run(says, func(t *testing.T) {
			assets, dir := t.TempDir(), t.TempDir()
			t.Setenv("KUBEBUILDER_ASSETS", assets)
			for program, script := range map[string]string{"etcd": "%s; exec sleep 600", "kube-apiserver": server} {
				script = "#!/bin/sh\n" + fmt.Sprintf(script, "echo $$ >>"+assets+"/pids") + "\n"
				if err := os.WriteFile(filepath.Join(assets, program), []byte(script), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			running := func() []string {
				pids, _ := os.ReadFile(filepath.Join(assets, "pids"))
				return strings.Fields(string(pids))
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if strings.Contains(server, "wait") {
				go func() {
					for len(running()) < 2 {
						time.Sleep(time.Millisecond) // until both have begun
					}
					cancel(errors.New("it was too slow"))
				}()
			}
			_, err := controlplane.Start(ctx, dir, nil)
			lastWords, _, _ := strings.Cut(strings.TrimPrefix(server, "echo "), ";")
			if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), lastWords) {
				t.Errorf("error is %v", err)
			}
			for _, pid := range running() {
				if _, err := os.Stat("/proc/" + pid); err == nil {
					t.Errorf("process %s is left", pid)
				}
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("%v is left, %v", left, err)
			}
		})
	}
}
