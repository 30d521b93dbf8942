package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// elsewhere are the README's blocks that TestReadme does not run, by how they begin.
var elsewhere = map[string]string{
	"make run ":                       "e2e/demo_test.go runs it",
	"make image ":                     "the suite on kind plays its pods from that image",
	"make e2e TARGET=embedded":        "it is the suite",
	"kubectl create configmap studio": "e2e/documents_test.go types it at an API server",
	"kubectl patch configmap studio":  "likewise",
	"kubectl label node NODE":         "likewise",
	"kubectl apply -k .":              "e2e/image_test.go types it on kind, which has GPUs",
	"kubectl run -n lab build":        "likewise",
	"kubectl delete -k .":             "likewise",
	"namespace: lab":                  "e2e/kubectl_test.go applies such a kustomization",
	"nameSuffix: -t4":                 "deploy/fakegpu_test.go builds it",
}

var fence = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")

// TestReadme types what README has, from the first block to the last.
func TestReadme(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("the README's example needs python3")
	}
	text, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, place := newDatabase(t, queueServer(t))
	dir := t.TempDir()
	script := []string{"set -e", "trap 'kill $(jobs -p); wait' EXIT"}
	skipped := map[string]bool{}
blocks:
	for _, found := range fence.FindAllStringSubmatch(string(text), -1) {
		language, block := found[1], found[2]
		for begin := range elsewhere {
			if strings.HasPrefix(block, begin) {
				skipped[begin] = true
				continue blocks
			}
		}
		switch language {
		case "text": // nothing to type
		case "sh":
			block = strings.Replace(block, "sleep 5;", "until runner logs train | grep 'epoch 3 '; do sleep 0.1; done;", 1)
			block = strings.Replace(block, "--max-idle 1s", "--max-idle 10s", 1) // a busy machine finds the task late
			script = append(script, strings.ReplaceAll(block, "postgres://fleet@db.example/tasks", "'"+place+"'"))
		case "python": // slowly for people; here it waits for the drain
			faster := strings.Replace(block, "time.sleep(1)",
				`while state["epoch"] == 3 and not os.path.exists(os.environ["STUDIOML_DRAIN_FILE"]): time.sleep(0.02)`, 1)
			if err := os.WriteFile(filepath.Join(dir, "train.py"), []byte(faster), 0o644); err != nil || faster == block {
				t.Errorf("train.py: %v, or it does not sleep", err)
			}
		case "yaml":
			if _, err := api.ParseTask([]byte(block)); err != nil {
				t.Errorf("%v in\n%s", err, block)
			}
		default:
			t.Errorf("a block of %q; must be sh, yaml, python or text:\n%s", language, block)
		}
	}
	for begin := range elsewhere {
		if !skipped[begin] {
			t.Errorf("README has no block any more that begins with %q", begin)
		}
	}

	cmd := exec.CommandContext(t.Context(), "bash", "-c", strings.Join(script, "\n"))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir, "KUBECONFIG=", "STUDIOML_LISTEN=127.0.0.1:0", "STUDIOML_NVML_LIBRARY=none",
		"STUDIOML_TERMINATION_LOG="+filepath.Join(dir, "last-words"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 10 * time.Second
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"hello\n", "it ended with 143", "attempt 1  Interrupted", "epoch 30 ", "I ran on "} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for file, want := range map[string]string{"copy/outputs/answer": "42", "copy/stdout": "hello", "model/outputs/model.json": `"epoch": 30`} {
		if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s: %v, %q; want %q in it", file, err, got, want)
		}
	}
}
