package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// planted are runners that break a rule each.
var planted = map[string]struct {
	file   string
	change []string // what is there, and what takes its place, in turn
	kinds  string   // of faults that bring it to light
	clause string
}{
	"R5: the gate does not close": {"runner/internal/gate/gate.go", []string{
		"if g.open {\n\t\t\tt := &Ticket{gate: g, period: period}", "if true {\n\t\t\tt := &Ticket{gate: g, period: context.Background()}",
	}, "state-global,state-node", LateStart},
	"R6: a drain cannot be cancelled": {"runner/internal/lifecycle/machine.go", []string{
		"	p.Memory = memory\n", "	p.Memory = memory\n	if p.Effective == api.DrainAndTerminate {\n		resolved.Effective = p.Effective\n	}\n",
		"fresh.Effective == api.DrainAndTerminate\n", "fresh.Effective != \"\"\n",
	}, "state", Unasked},
	"R9: a drain after a signal exits 0": {"runner/api/state.go", []string{"ExitSignalled  = 143", "ExitSignalled  = 0"}, "term", ExitCode},
	"R12: what was stopped is removed": {"runner/internal/queue/spool/delivery.go", []string{
		"	err = d.settle(\"finish\", func() error {\n", "	err = d.settle(\"finish\", func() error {\n		if r.Outcome == api.Interrupted {\n			return d.remove()\n		}\n",
	}, "term,double", Lost},
	"R12: what was stopped is removed, on postgres": {"runner/internal/queue/postgres/delivery.go", []string{
		"	case api.Interrupted, api.MachineFailed:\n", "	case api.Interrupted, api.MachineFailed:\n		e.state = api.TaskCancelled\n",
	}, "term,double", Lost},
	"R12: an end that no server heard is taken for told, on postgres": {"runner/internal/queue/postgres/delivery.go", []string{
		"		d.queue.Late.Add(1)\n", "		d.forget()\n		return e.state, nil\n",
	}, "server", Repeat},
	"R12: a failure is told as a success": {"runner/internal/task/run.go", []string{
		"		r.ExitCode = end.Status.ExitStatus()\n", "		r.ExitCode = 0\n",
	}, "state-blip", TrueWord},
	"R12: a success runs once more, on postgres": {"runner/internal/queue/postgres/delivery.go", []string{
		"		e.state = api.TaskFinished\n", "		if r.Attempt > 1 {\n			e.state = api.TaskFinished\n		}\n",
	}, "state-blip", OneResult},
	"what an attempt leaves is not removed": {"runner/internal/queue/spool/claim.go", []string{
		"		err = tree.RemoveUntil(ctx, s.path(tmpDir, e.Name()))\n", "		err = nil\n",
	}, "state-blip", Left},
	"R13: nobody locks GPUs": {"runner/serve.go", []string{"s.GPULock != \"off\"", "s.GPULock == \"on\""}, "kill,state-blip", HeldTwice},
}

// TestPlantedFaults has the short form find each of them by its clause. It takes
// minutes: make chaos-planted says where everything is.
func TestPlantedFaults(t *testing.T) {
	suite := os.Getenv("CHAOS_BIN")
	if suite == "" {
		t.Skip("make chaos-planted runs it")
	}
	for name, p := range planted {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			runner := filepath.Join(dir, "runner")
			build(t, dir, p.file, p.change, runner)
			cmd := exec.CommandContext(t.Context(), filepath.Join(suite, "chaos"), "--short", "--seed=1", "--tasks=150", "--strikes=24", "--kinds="+p.kinds, "--queue="+queueOf(p.file),
				"--runner="+runner, "--task="+filepath.Join(suite, "chaos-task"), "--nvml="+filepath.Join(suite, "libnvidia-ml.so.1"), "--artifacts="+dir+"/artifacts")
			output, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(output), "\n"+p.clause+": ") {
				t.Errorf("want a problem with %q, and got %v\n%s", p.clause, err, output)
			}
		})
	}
}

// queueOf is the queue that a fault in a file is found with.
func queueOf(file string) string {
	if strings.Contains(file, "/postgres/") {
		return inServer
	}
	return inDirectory
}

// TestPlantedFaultsFit keeps them in step with the sources.
func TestPlantedFaultsFit(t *testing.T) {
	for _, p := range planted {
		plant(t, p.file, p.change)
	}
}

// plant returns the absolute name of a source, and what it is with the change.
func plant(t *testing.T, file string, change []string) (path, text string) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../..", file))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = string(source)
	for i := 0; i < len(change); i += 2 {
		if strings.Count(text, change[i]) != 1 {
			t.Fatalf("%s has not exactly one %q", file, change[i])
		}
		text = strings.Replace(text, change[i], change[i+1], 1)
	}
	return path, text
}

// build makes a runner of a changed source.
func build(t *testing.T, dir, file string, change []string, runner string) {
	t.Helper()
	file, text := plant(t, file, change)
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{file: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{changed: text, overlay: string(list)} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-ldflags=-extldflags=-Wl,-z,lazy", "-o", runner, "../../runner")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
}
