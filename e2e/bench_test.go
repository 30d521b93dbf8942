package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/crowd"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
	"github.com/studioml/studio-go-runner/runner/api"
)

// BenchmarkChangeOfState measures how long a runner takes to report a state that
// was written to the API server, and its memory: alone, and in a namespace with
// 10,000 other maps, which are changed one after the other, every 5 ms.
func BenchmarkChangeOfState(b *testing.B) {
	plane, err := embedded.StartControlPlane(b.Context(), b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = plane.Close() })
	runner, err := filepath.Abs(filepath.Join("..", "bin", "runner"))
	if err != nil {
		b.Fatal(err)
	}
	t, err := embedded.New(embedded.Config{Handle: plane.Handle(), RunnerBinary: runner})
	if err != nil {
		b.Fatal(err)
	}
	for _, others := range []int{0, 10000} {
		b.Run(fmt.Sprintf("others=%d", others), func(b *testing.B) { changeState(b, t, others) })
	}
}

func changeState(b *testing.B, t targets.Target, others int) {
	env, err := t.Isolate(b.Context(), targets.Isolation{Name: "benchmark", NodeMaps: []string{"a"}, Permissions: scenario.PermissionsShipped, Artifacts: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := env.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	objects := env.Client().Resources(env.Namespace())
	global := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: api.GlobalMapName, Namespace: env.Namespace()}}
	global.Data = map[string]string{api.StateKey: string(api.Running)}
	if err := objects.Create(b.Context(), global); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	following := statuses{ctx, make(chan api.Status), make(chan targets.Exit, 1)}
	if _, err := env.StartRunner(b.Context(), targets.RunnerSpec{Name: "a", Runner: scenario.Runner{Slots: 1}}, following); err != nil {
		b.Fatal(err)
	}
	if others > 0 {
		all, err := crowd.Make(ctx, env.Client(), env.Namespace(), others)
		if err != nil {
			b.Fatal(err)
		}
		changed := make(chan error, 1)
		go func() { changed <- all.Change(ctx, 5*time.Millisecond) }()
		defer func() {
			cancel()
			if err := <-changed; err != nil {
				b.Error(err)
			}
		}()
	}
	defer cancel()
	last, err := following.await(global.ResourceVersion)
	if err != nil {
		b.Fatal(err)
	}

	var took []time.Duration
	states := []api.State{api.DrainAndSuspend, api.Running}
	for b.Loop() {
		global.Data[api.StateKey] = string(states[len(took)%2])
		begin := time.Now()
		if err := objects.Update(ctx, global); err != nil {
			b.Fatal(err)
		}
		if last, err = following.await(global.ResourceVersion); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	memory, err := residentMemory(last.PID)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(memory, "runner-MiB")
}

// statuses are those of one runner.
type statuses struct {
	ctx   context.Context
	all   chan api.Status
	ended chan targets.Exit
}

func (s statuses) Status(status api.Status) {
	select {
	case s.all <- status:
	case <-s.ctx.Done():
	}
}

func (s statuses) Log(string)             {}
func (s statuses) Trouble(error)          {}
func (s statuses) Exit(exit targets.Exit) { s.ended <- exit }

// await returns the first status that knows a version of the global map.
func (s statuses) await(version string) (api.Status, error) {
	for {
		select {
		case status := <-s.all:
			if m := status.Maps.Global; m != nil && m.ResourceVersion == version {
				return status, nil
			}
		case exit := <-s.ended:
			return api.Status{}, fmt.Errorf("the runner has exited with %d: %s", exit.Code, exit.Message)
		case <-time.After(10 * time.Second):
			return api.Status{}, fmt.Errorf("version %s of the global map is not reported", version)
		}
	}
}

// residentMemory of a process, in MiB.
func residentMemory(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, text, _ := strings.Cut(string(data), "VmRSS:")
	kib, err := strconv.ParseFloat(strings.Fields(text + " 0")[0], 64)
	return kib / 1024, err
}
