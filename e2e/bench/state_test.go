package main_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/e2e-framework/klient/k8s/resources"

	"github.com/studioml/studio-go-runner/e2e/crowd"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// BenchmarkChangeOfState measures how long it takes from the write of a state to the
// API server until the runner reports it, or until something simpler has seen it: alone,
// and in a namespace with 10,000 other maps, which are changed one after the other,
// every 5 ms.
func BenchmarkChangeOfState(b *testing.B) {
	for _, others := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("others=%d", others), func(b *testing.B) {
			env := isolate(b)
			global := globalMap(b, env)
			if others > 0 {
				defer changing(b, env, few(others))()
			}
			for name, follow := range map[string]func(b *testing.B, env targets.Env, seen chan<- string) (stop func()){
				"runner": followRunner, "watch": followWatch("metadata.name=" + api.GlobalMapName), "namespace": followWatch(""),
			} {
				b.Run(name, func(b *testing.B) { changeState(b, env, global, few(1000), 0, follow) })
			}
			// Changes come at any time, and not just after a look.
			b.Run("poll", func(b *testing.B) { changeState(b, env, global, few(20), time.Second, followPolling) })
		})
	}
}

// changing makes maps and changes them.
func changing(b *testing.B, env targets.Env, maps int) (stop func()) {
	ctx, cancel := context.WithCancel(b.Context())
	all, err := crowd.Make(ctx, env.Client().Objects(""), env.Namespace(), maps)
	check(b, err)
	changed := make(chan error, 1)
	go func() { changed <- all.Change(ctx, 5*time.Millisecond) }()
	return func() {
		cancel()
		check(b, <-changed)
	}
}

// changeState makes changes, each after a pause of any length up to one.
func changeState(b *testing.B, env targets.Env, global *state, changes int, pause time.Duration, follow func(*testing.B, targets.Env, chan<- string) (stop func())) {
	seen := make(chan string, 1000)
	defer follow(b, env, seen)()
	await := func() {
		for version := ""; version != global.object.ResourceVersion; {
			select {
			case version = <-seen:
			case <-time.After(time.Minute):
				b.Fatalf("version %s of the global map is not seen", global.object.ResourceVersion)
			}
		}
	}
	await()
	var took []time.Duration
	for range changes {
		time.Sleep(rand.N(pause + 1))
		begin := time.Now()
		global.flip(b)
		await()
		took = append(took, time.Since(begin))
	}
	quantiles(b, "", took)
}

// followRunner tells which version of the global map the runner reports.
func followRunner(b *testing.B, env targets.Env, seen chan<- string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	runner := startRunner(b, env, nil, sink{ctx: ctx, status: func(s api.Status) {
		if m := s.Maps.Global; m != nil {
			seen <- m.ResourceVersion
		}
	}})
	return func() {
		cancel()
		check(b, runner.Signal(b.Context(), syscall.SIGKILL))
	}
}

// followWatch is a watch by client-go, of what a field selector selects.
func followWatch(selector string) func(*testing.B, targets.Env, chan<- string) func() {
	return func(b *testing.B, env targets.Env, seen chan<- string) func() {
		client := clientset(b, env)
		watch, err := client.CoreV1().ConfigMaps(env.Namespace()).Watch(b.Context(), metav1.ListOptions{FieldSelector: selector})
		check(b, err)
		go func() {
			for event := range watch.ResultChan() {
				if m, ok := event.Object.(*corev1.ConfigMap); ok && m.Name == api.GlobalMapName {
					seen <- m.ResourceVersion
				}
			}
		}()
		return watch.Stop
	}
}

// followPolling asks once a second.
func followPolling(b *testing.B, env targets.Env, seen chan<- string) func() {
	ctx, cancel := context.WithCancel(b.Context())
	client := clientset(b, env)
	go func() {
		for tick := time.Tick(time.Second); ; {
			if m, err := client.CoreV1().ConfigMaps(env.Namespace()).Get(ctx, api.GlobalMapName, metav1.GetOptions{}); err == nil {
				seen <- m.ResourceVersion
			}
			select {
			case <-tick:
			case <-ctx.Done():
				return
			}
		}
	}()
	return cancel
}

func clientset(b *testing.B, env targets.Env) *kubernetes.Clientset {
	b.Helper()
	client, err := kubernetes.NewForConfig(env.Client().Config)
	check(b, err)
	return client
}

// state is the global map of a namespace.
type state struct {
	object  *corev1.ConfigMap
	objects *resources.Resources
}

func globalMap(b *testing.B, env targets.Env) *state {
	b.Helper()
	s := &state{&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: api.GlobalMapName, Namespace: env.Namespace()}}, env.Client().Objects(env.Namespace())}
	s.object.Data = map[string]string{api.StateKey: string(api.Running)}
	check(b, s.objects.Create(b.Context(), s.object))
	return s
}

func (s *state) set(b *testing.B, to api.State) {
	b.Helper()
	s.object.Data[api.StateKey] = string(to)
	check(b, s.objects.Update(b.Context(), s.object))
}

// flip suspends, or resumes.
func (s *state) flip(b *testing.B) {
	b.Helper()
	if s.object.Data[api.StateKey] == string(api.Running) {
		s.set(b, api.DrainAndSuspend)
	} else {
		s.set(b, api.Running)
	}
}

// sink takes what a runner tells, until ctx ends.
type sink struct {
	ctx    context.Context
	status func(api.Status)
	exit   func(targets.Exit)
}

func (s sink) Status(status api.Status) {
	if s.ctx.Err() == nil && s.status != nil {
		s.status(status)
	}
}
func (s sink) Log(string)    {}
func (s sink) Trouble(error) {}
func (s sink) Exit(exit targets.Exit) {
	if s.ctx.Err() == nil && s.exit != nil {
		s.exit(exit)
	}
}

func startRunner(b *testing.B, env targets.Env, flags map[scenario.Flag]string, tells targets.Sink) targets.Runner {
	b.Helper()
	runner, err := env.StartRunner(b.Context(), targets.RunnerSpec{Name: "a", Runner: scenario.Runner{Slots: 1, Flags: flags}}, tells)
	check(b, err)
	return runner
}
