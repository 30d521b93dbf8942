package main_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// BenchmarkEnd measures how long a draining runner takes from the end of its last task
// until it reports that it is suspended, or has exited. There is no settle window here.
func BenchmarkEnd(b *testing.B) {
	for name, to := range map[string]api.State{"suspended": api.DrainAndSuspend, "exit": api.DrainAndTerminate} {
		b.Run(name, func(b *testing.B) {
			var all []time.Duration
			for range few(20) {
				all = append(all, endOfTask(b, to))
			}
			quantiles(b, "", all)
		})
	}
	b.Run("least", func(b *testing.B) {
		var all []time.Duration
		for range few(20) {
			all = append(all, endPlainly(b))
		}
		quantiles(b, "", all)
	})
}

func endOfTask(b *testing.B, to api.State) time.Duration {
	env := isolate(b)
	defer env.Close(context.Background())
	global := globalMap(b, env)
	phases, dir := make(chan api.Phase, 1000), kept(b)
	ended, hold := filepath.Join(dir, "ended"), filepath.Join(dir, "hold")
	check(b, syscall.Mkfifo(hold, 0o600))
	check(b, env.Submit(b.Context(), []api.Task{{ID: "t", Command: "bash", Args: []string{"-c", "read <" + hold + "; " + stamp(ended)}}}))
	running := make(chan bool, 1)
	startRunner(b, env, map[scenario.Flag]string{"settle": "0s"}, sink{ctx: b.Context(),
		status: func(s api.Status) {
			if s.Tasks.Running == 1 {
				select {
				case running <- true:
				default:
				}
			}
			phases <- s.Phase
		},
		exit: func(targets.Exit) { phases <- api.PhaseTerminated },
	})
	await := func(want api.Phase) {
		for phase := range phases {
			if phase == want {
				return
			}
		}
	}
	<-running
	global.set(b, to)
	await(api.PhaseDraining)
	check(b, os.WriteFile(hold, []byte("\n"), 0o600))
	await(map[api.State]api.Phase{api.DrainAndSuspend: api.PhaseSuspended, api.DrainAndTerminate: api.PhaseTerminated}[to])
	now := time.Now()
	return now.Sub(stamps(b, ended)[0])
}

// BenchmarkStart measures how long it takes from the start of the program until the
// state is known; how long the two reads take for that alone, in a program that
// runs already and with a connection of their own; and how long a program takes that is
// started, does them and does nothing else.
func BenchmarkStart(b *testing.B) {
	env := isolate(b)
	globalMap(b, env)
	b.Run("runner", func(b *testing.B) {
		var all []time.Duration
		for range few(20) {
			begin := time.Now()
			runner := serve(b, nil, "--spool="+kept(b), "--kubeconfig="+kubeconfig(env))
			all = append(all, runner.await(b, 1, "to=Running")[0].Sub(begin))
			runner.end(b)
		}
		quantiles(b, "", all)
	})
	b.Run("gets", func(b *testing.B) {
		var all []time.Duration
		for range few(20) {
			begin := time.Now()
			client, err := kubernetes.NewForConfig(ownConnection(env.Client().Config))
			check(b, err)
			maps := client.CoreV1().ConfigMaps(env.Namespace())
			_, err = maps.Get(b.Context(), api.GlobalMapName, metav1.GetOptions{})
			check(b, err)
			_, err = maps.List(b.Context(), metav1.ListOptions{FieldSelector: "metadata.name=a"})
			check(b, err)
			all = append(all, time.Since(begin))
		}
		quantiles(b, "", all)
	})
	b.Run("least", func(b *testing.B) {
		least, command := buildLeast(b), []string{"--kubeconfig=" + kubeconfig(env), "--read=" + env.Namespace()}
		var all []time.Duration
		for range few(20) {
			begin := time.Now()
			if out := run(b, nil, "", append([]string{least}, command...)...); out != "known\n" {
				b.Fatalf("it prints %q", out)
			}
			all = append(all, time.Since(begin))
		}
		quantiles(b, "", all)
	})
}

// BenchmarkDrain measures how long after an order to drain it is said that nothing starts
// any more, and so it is, while many short tasks wait.
func BenchmarkDrain(b *testing.B) {
	starts := few(400)
	task := func(file string) string { return stamp(file) + "; sleep 0.01" }
	inForce := func(b *testing.B, file string, ordered, said time.Time) time.Duration {
		at := stamps(b, file)
		return max(said.Sub(ordered), at[len(at)-1].Sub(ordered))
	}
	b.Run("runner", func(b *testing.B) {
		var all []time.Duration
		for range few(20) {
			env := isolate(b)
			global, file, queue := globalMap(b, env), filepath.Join(kept(b), "stamps"), "--spool="+kept(b)
			submit(b, queue, starts, fmt.Sprintf(`{command: bash, args: ["-c", %q]}`, task(file)))
			runner := serve(b, nil, queue, "--slots=4", "--kubeconfig="+kubeconfig(env))
			runner.await(b, few(10), "task finished")
			ordered := time.Now()
			global.set(b, api.DrainAndSuspend)
			said := runner.await(b, 1, "effective=DrainAndSuspend")[0]
			runner.end(b) // and with it what it has started
			all = append(all, inForce(b, file, ordered, said))
		}
		quantiles(b, "", all)
	})
	b.Run("slurm", func(b *testing.B) {
		slurm, file := startSlurm(b), filepath.Join(kept(b), "stamps")
		var all []time.Duration
		for range few(3) {
			check(b, os.RemoveAll(file))
			slurm.run(b, "sbatch", fmt.Sprintf("--array=1-%d", few(40)), "-o", "/dev/null", "--wrap", "bash -c '"+task(file)+"'")
			for starts := 0; starts < few(4); time.Sleep(10 * time.Millisecond) {
				if _, err := os.Stat(file); err == nil {
					starts = len(stamps(b, file))
				}
			}
			ordered := time.Now()
			slurm.run(b, "scontrol", "update", "nodename=localhost", "state=drain", "reason=bench")
			said := time.Now()
			slurm.until(b, "drained", "sinfo", "-h", "-N", "-o", "%T")
			all = append(all, inForce(b, file, ordered, said))
			slurm.run(b, "scancel", "-u", "root")
			slurm.run(b, "scontrol", "update", "nodename=localhost", "state=resume")
			slurm.until(b, "", "squeue", "-h")
		}
		quantiles(b, "", all)
	})
}

// ownConnection keeps client-go from sharing one with others.
func ownConnection(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.Dial = (&net.Dialer{}).DialContext
	return config
}
