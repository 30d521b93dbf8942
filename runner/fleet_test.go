package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/studioml/studio-go-runner/e2e/controlplane"
	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
	"github.com/studioml/studio-go-runner/runner/internal/kube"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
	"github.com/studioml/studio-go-runner/runner/internal/statemap"
)

// kindOfFollower follows both maps with a connection of its own until ctx ends, and sends each
// version of the global map that it knows of.
type kindOfFollower func(ctx context.Context, config *rest.Config, node string, seen chan<- string) error

var followers = map[string]kindOfFollower{"runner": asRunner, "watch": asWatch}

// asRunner is the part of a runner that is steered: what it sends, its gate has obeyed.
func asRunner(ctx context.Context, config *rest.Config, node string, seen chan<- string) error {
	client, err := kube.New(config)
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	maps := statemap.New(client, metav1.NamespaceDefault, node, log)
	life := &lifecycle.Loop{
		Machine: lifecycle.Machine{Settle: time.Second}, Log: log, Gate: gate.New(), Maps: maps.Updates(), ReadFresh: maps.ReadFresh,
		Stop: func(lifecycle.Stop) {}, Transition: func(_, _ lifecycle.Report) {}, Problem: func(lifecycle.View, lifecycle.Problem) {},
		Publish: func(r lifecycle.Report, _ lifecycle.Snapshot, _ lifecycle.Memory, _ gate.Snapshot) {
			seen <- r.ResourceVersion
		},
	}
	_, err = together(ctx, life, maps.Run)
	return err
}

// asWatch is two bare watches by client-go. Those that end are begun again within a second.
func asWatch(ctx context.Context, config *rest.Config, node string, seen chan<- string) error {
	config = rest.CopyConfig(config)
	config.Dial = new(net.Dialer).DialContext // else all of them would share a connection
	client, err := typed.NewForConfig(config)
	if err != nil {
		return err
	}
	var both sync.WaitGroup
	for _, name := range []string{api.GlobalMapName, node} {
		both.Go(func() {
			for ctx.Err() == nil {
				if watch, err := client.ConfigMaps(metav1.NamespaceDefault).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name}); err == nil {
					for event := range watch.ResultChan() {
						if m, ok := event.Object.(*corev1.ConfigMap); ok && name == api.GlobalMapName {
							seen <- m.ResourceVersion
						}
					}
					watch.Stop()
				}
				select {
				case <-time.After(rand.N(time.Second)):
				case <-ctx.Done():
				}
			}
		})
	}
	both.Wait()
	return nil
}

// steeredFleet is many followers, and the API server that they ask.
type steeredFleet struct {
	*testing.B
	plane  *controlplane.ControlPlane
	admin  *kubernetes.Clientset
	global *corev1.ConfigMap
	load   *load
	whole  context.Context // of all measurements
	kind   string          // of the followers that there are
	seen   []chan string   // by follower
	stop   func()
}

func newFleet(b *testing.B) *steeredFleet {
	b.Helper()
	plane, err := controlplane.Start(b.Context(), b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { plane.Close() })
	f := &steeredFleet{B: b, plane: plane, load: new(load), whole: b.Context(), stop: func() {}}
	f.admin, err = kubernetes.NewForConfig(f.config())
	check(b, err)
	f.global = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: api.GlobalMapName}, Data: map[string]string{api.StateKey: string(api.Running)}}
	f.global, err = f.admin.CoreV1().ConfigMaps(metav1.NamespaceDefault).Create(b.Context(), f.global, metav1.CreateOptions{})
	check(b, err)
	return f
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (f *steeredFleet) config() *rest.Config {
	h := f.plane.Handle
	return &rest.Config{Host: h.Server, BearerToken: h.Token, TLSClientConfig: rest.TLSClientConfig{CAData: h.CA}, QPS: -1}
}

// load counts the requests of followers that have no answer yet.
type load struct{ now, most atomic.Int64 }

// asks is one of those, which holds its place from when it is sent.
type asks struct {
	http.RoundTripper
	load *load
}

func (a asks) RoundTrip(request *http.Request) (*http.Response, error) {
	var sent atomic.Int64
	trace := &httptrace.ClientTrace{WroteHeaders: func() {
		if sent.Swap(1) == 0 { // it may be sent again
			a.load.add()
		}
	}}
	defer func() { a.load.now.Add(-sent.Load()) }()
	return a.RoundTripper.RoundTrip(request.WithContext(httptrace.WithClientTrace(request.Context(), trace)))
}

func (l *load) add() {
	now := l.now.Add(1)
	for most := l.most.Load(); now > most && !l.most.CompareAndSwap(most, now); most = l.most.Load() {
	}
}

// start starts followers instead of those that there are, unless they are such, and
// waits until all know the global map.
func (f *steeredFleet) start(kind string, n int) {
	if testing.Short() {
		n = min(n, 10)
	}
	if kind == f.kind && n == len(f.seen) {
		return
	}
	f.stop()
	ctx, cancel := context.WithCancel(f.whole)
	var all sync.WaitGroup
	f.kind, f.seen = kind, nil
	f.stop = func() {
		cancel()
		all.Wait()
	}
	const atOnce = 100 // that begin; more would wait for each other until they give up
	for i := range n {
		if i%atOnce == 0 {
			f.await(time.Now(), f.seen[max(0, i-atOnce):])
		}
		seen := make(chan string, 100) // more than a follower has to say before it is asked
		f.seen = append(f.seen, seen)
		all.Go(func() {
			config := f.config()
			config.Wrap(func(transport http.RoundTripper) http.RoundTripper { return asks{transport, f.load} })
			if err := followers[kind](ctx, config, fmt.Sprint("node-", i), seen); err != nil && ctx.Err() == nil {
				f.Error(err)
			}
		})
	}
	f.await(time.Now(), f.seen[(n-1)/atOnce*atOnce:])
}

// flip changes the global map and says when each follower has known it.
func (f *steeredFleet) flip() []time.Duration {
	f.Helper()
	states := map[string]string{string(api.Running): string(api.DrainAndSuspend), string(api.DrainAndSuspend): string(api.Running)}
	f.global.Data[api.StateKey] = states[f.global.Data[api.StateKey]]
	begin := time.Now()
	var err error
	f.global, err = f.admin.CoreV1().ConfigMaps(metav1.NamespaceDefault).Update(f.Context(), f.global, metav1.UpdateOptions{})
	check(f.B, err)
	return f.await(begin, f.seen)
}

func (f *steeredFleet) await(begin time.Time, followers []chan string) []time.Duration {
	f.Helper()
	took := make([]time.Duration, len(followers))
	var all sync.WaitGroup
	late := time.After(10 * time.Minute)
	done := make(chan struct{})
	for i, seen := range followers {
		all.Go(func() {
			for version := ""; version != f.global.ResourceVersion; {
				select {
				case version = <-seen:
				case <-done:
					return
				}
			}
			took[i] = time.Since(begin)
		})
	}
	waited := make(chan struct{})
	go func() { all.Wait(); close(waited) }()
	select {
	case <-waited:
	case <-late:
		close(done)
		<-waited
		f.Fatal("not all followers have seen the change")
	}
	slices.Sort(took)
	return took
}

// BenchmarkFleet measures how long it takes from the write of a state until a runner's
// gate has moved, and until that of the last one of a fleet has: runners of one process,
// with a connection each. Beside them are as many pairs of bare watches. In a storm the
// API server is killed under them, and starts again.
func BenchmarkFleet(b *testing.B) {
	f := newFleet(b)
	defer func() { f.stop() }()
	for kind := range followers {
		for _, n := range []int{1, 100, 1000, 5000} {
			b.Run(fmt.Sprintf("%s/runners=%d", kind, n), func(b *testing.B) {
				f.B = b
				f.start(kind, n)
				f.measure(max(5, 500/n))
			})
		}
		b.Run("storm/"+kind, func(b *testing.B) {
			f.B = b
			f.start(kind, 5000)
			f.storm()
		})
	}
}

func (f *steeredFleet) measure(flips int) {
	if testing.Short() {
		flips = 3
	}
	var all, last []time.Duration
	for range flips {
		took := f.flip()
		all, last = append(all, took...), append(last, took[len(took)-1])
	}
	slices.Sort(all)
	slices.Sort(last)
	for _, q := range []float64{10, 50, 90, 99, 100} {
		f.ReportMetric(all[int(float64(len(all)-1)*q/100)].Seconds()*1000, fmt.Sprintf("p%g-ms", q))
	}
	f.ReportMetric(last[len(last)/2].Seconds()*1000, "last-ms")
}

// storm measures how long it takes from the start of an API server that was killed until
// the last follower knows of a change, which is written when the server is ready, and of
// that the part after it is ready. Beside it are the processor time and the memory that the
// server has used by then, and the most requests that waited for it at the same time.
func (f *steeredFleet) storm() {
	storms := 3
	if testing.Short() {
		storms = 1
	}
	figures := map[string][]float64{}
	for range storms {
		check(f.B, f.plane.StopAPIServer(f.Context()))
		f.load.most.Store(0)
		begin := time.Now()
		// One that cannot reach itself in time beside so many clients ends, and a kubelet
		// starts it again.
		for starts := 1; ; starts++ {
			err := f.plane.StartAPIServer(f.Context())
			if err == nil {
				break
			}
			if starts == 5 {
				f.Fatal(err)
			}
			check(f.B, f.plane.StopAPIServer(f.Context()))
		}
		took := f.flip()
		last := time.Since(begin)
		for unit, figure := range map[string]float64{
			"last-s": last.Seconds(), "ready-last-s": took[len(took)-1].Seconds(), "most-requests": float64(f.load.most.Load()),
			"server-cpu-s": f.server("process_cpu_seconds_total"), "server-MiB": f.server("process_resident_memory_bytes") / (1 << 20),
		} {
			figures[unit] = append(figures[unit], figure)
		}
	}
	for unit, all := range figures {
		slices.Sort(all)
		f.ReportMetric(all[len(all)/2], unit)
	}
}

// server is a metric of the API server.
func (f *steeredFleet) server(metric string) float64 {
	f.Helper()
	text, err := f.admin.RESTClient().Get().AbsPath("/metrics").DoRaw(f.Context())
	check(f.B, err)
	_, value, _ := strings.Cut(string(text), "\n"+metric+" ")
	value, _, _ = strings.Cut(value, "\n")
	figure, err := strconv.ParseFloat(value, 64)
	check(f.B, err)
	return figure
}
