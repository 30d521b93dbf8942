package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
	"github.com/studioml/studio-go-runner/runner/internal/kube"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
	"github.com/studioml/studio-go-runner/runner/internal/observe"
	"github.com/studioml/studio-go-runner/runner/internal/queue/postgres"
	"github.com/studioml/studio-go-runner/runner/internal/scheduler"
	"github.com/studioml/studio-go-runner/runner/internal/statemap"
	"github.com/studioml/studio-go-runner/runner/internal/supervise"
)

// nvmlLimit is how long something waits for what NVML says about the GPUs: a
// driver that hangs must not hold up more than that.
const nvmlLimit = 2 * time.Second

// reservedThreads are enough for what blocks at the same time: files of the tasks
// that begin or end, the looks at the queue, NVML.
const reservedThreads = 24

// noLastWord stands where the last sentence comes, for an end that leaves no time to say one.
const noLastWord = "the runner had no time for a last word: it was killed, or could not get a thread or memory, which the end of its log tells"

// Run is the life of a runner. The data flows like this:
//
//	ConfigMaps -> statemap -> lifecycle -> gate -> scheduler -> task
//	                              |                    |  ^-> queue, result
//	                              |                    '-> GPU pool <- monitor <- NVML
//	                              |                    v
//	                              |                gate (tickets) -> lifecycle
//	                              '-> reporter -> log, metrics, Events; the tasks' drain file;
//	                                              board -> HTTP, pod, offers
//
// Everything is made first, then started, and ends with ctx.
func (s *Serve) Run(ctx context.Context, _ stdio) (err error) {
	// A signal that comes while the runner starts is handled like any other.
	signals := catchSignals()
	defer func() {
		if err != nil && !errors.As(err, new(exitCode)) {
			s.leaveMessage(err.Error())
		}
	}()

	name, host, from, err := s.names()
	if err != nil {
		return err
	}
	s.leaveMessage(noLastWord)
	// A runner waits more than it computes. With more processors Go wakes threads for
	// each wait that ends, to no avail: a fifth of what a short task costs.
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
	if err := supervise.Prepare(reservedThreads); err != nil {
		return err
	}
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // tasks are of the same user, and may not read its memory
	log, lines := s.logger(os.Stderr, name)
	defer lines.flush()
	slog.SetDefault(log) // and with it the log of the standard library
	klog.SetSlogLogger(log.With("component", "client-go").WithGroup("klog"))

	maps, client, namespace, err := s.findMaps(log, host, from)
	if err != nil {
		return err
	}
	events := observe.NewEvents(client, log, namespace, name, s.PodName, s.PodUID)
	defer events.Close()
	pod := observe.NewPod(client, log, namespace, s.PodName, s.PodUID)
	pool := gpu.NewPool(nil)
	if s.GPULock != "off" {
		pool.LockIn(s.GPULock, log)
	}
	monitor := s.monitor(pool, log)
	listener, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return fmt.Errorf("%w; set --listen to a free address", err)
	}

	theGate := gate.New()
	theGate.Most = s.MaxTasks
	board := observe.NewBoard(api.Status{
		Runner: name, Version: version, PID: os.Getpid(), Started: time.Now(),
		Phase: api.PhaseUnknown, Maps: api.Maps{Namespace: namespace},
	})
	board.Heard = client.Heard
	metrics := observe.NewMetrics(board)
	metrics.Dropped(func() float64 { return float64(lines.dropped.Load()) })
	metrics.Registry.MustRegister(observe.GPULoad(monitor.Readings))
	drains, remove, err := drainDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	there, _ := s.there() // open says what is wrong
	queue, err := s.open(toMake, postgres.Options{Runner: name, Work: filepath.Join(drains, "attempts"), Log: log})
	if err != nil {
		return err
	}
	defer func() {
		go events.Close() // meanwhile: see lifecycle.CloseEnd
		err = errors.Join(err, within(lifecycle.CloseEnd, "giving back what it has claimed", queue.Close))
	}()
	if !there {
		log.Info("made a new queue", "spool", s.Spool)
	}
	if server, ok := queue.(*postgres.Queue); ok {
		log.Info("the queue is in a server", "queue", server.String())
		metrics.Queue(&server.Failures, &server.Lost, &server.Late)
	}
	slots := func() int { return cmp.Or(s.Slots, max(1, pool.Size())) }
	work := scheduler.New(scheduler.Config{
		Slots: slots, Gate: theGate, Queue: queue, GPUs: pool,
		Executor: &executor{Serve: s, runner: name, log: log},
		Check: func(ctx context.Context, uuids []string) string {
			ctx, cancel := context.WithTimeout(ctx, nvmlLimit)
			defer cancel()
			monitor.Look(ctx)
			return pool.Sick(uuids)
		},
		DrainDir: drains, Log: log, Starting: pod.Busy,
	})
	says := &reporter{log: log, metrics: metrics, events: events, board: board, work: work, gpus: pool}
	life := &lifecycle.Loop{
		Machine: lifecycle.Machine{
			Settle: s.Settle, DrainDeadline: s.DrainDeadline, GracePeriod: s.GracePeriod,
			KillDelay: s.KillDelay, Park: s.OnTerminate == "park", MaxTasks: s.MaxTasks, MaxIdle: s.MaxIdle,
		},
		Log: log, Gate: theGate, Signals: signals,
		Maps: maps.Updates(), ReadFresh: maps.ReadFresh, Stop: work.Stop, Devices: pool.State,
		Publish: says.publish, Transition: says.transition, Problem: says.problem,
	}
	server := observe.NewServer(observe.Handler(board, metrics.Registry), log)

	log.Info("serving", "address", listener.Addr().String(), "version", version, "namespace", namespace, "spool", s.Spool)
	exit, err := together(ctx, life, maps.Run, monitor.Run, supervise.Reap, sweepDrainDirs, metrics.Queued(queue.Length),
		func(ctx context.Context) error { return pod.Run(ctx, board) },
		func(ctx context.Context) error { return announce(ctx, board, slots, queue) },
		func(ctx context.Context) error {
			// It would only fetch what needs no GPU, and then find that there are some.
			known, cancel := context.WithTimeout(ctx, nvmlLimit)
			defer cancel()
			monitor.Look(known)
			return work.Run(ctx)
		},
		func(context.Context) error {
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve HTTP: %w", err)
			}
			return nil
		},
		func(ctx context.Context) error {
			<-ctx.Done()
			board.Close() // the streams end with the last status, then the server
			shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), lifecycle.PartsEnd/2)
			defer cancel()
			return errors.Join(server.Shutdown(shutdown), server.Close())
		})
	if err != nil {
		return err
	}
	log.Info("exit", "code", exit.Code, "message", exit.Message)
	s.leaveMessage(exit.Message)
	return exitCode(exit.Code)
}

// errExit ends the parts of a runner when the lifecycle has ordered the exit.
var errExit = errors.New("exit")

// together runs the parts until the lifecycle orders the exit or one of them fails.
func together(
	ctx context.Context, life *lifecycle.Loop, all ...func(context.Context) error,
) (exit lifecycle.Exit, err error) {
	parts, ctx := errgroup.WithContext(ctx)
	for _, part := range all {
		parts.Go(func() error { return part(ctx) })
	}
	parts.Go(func() error {
		ordered, err := life.Run(ctx)
		if err == nil {
			exit, err = ordered, errExit
		}
		return err
	})
	ended := make(chan error, 1)
	go func() { ended <- parts.Wait() }()
	<-ctx.Done()
	select {
	case <-ended:
	case <-time.After(lifecycle.PartsEnd): // a task that cannot be killed must not keep the process
	}
	if err := context.Cause(ctx); err != errExit { // what came first is the reason for the rest
		return lifecycle.Exit{}, err
	}
	return exit, nil
}

// within does something at the end of the process that must not keep it, as a disk that
// does not answer would.
func within(limit time.Duration, what string, do func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- do() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(limit):
		return fmt.Errorf("%s took longer than %s, and is left to the other runners", what, limit)
	}
}

// findMaps finds the cluster, and with it the two maps. Without one there is no client,
// and what would be read or written with it is not.
func (s *Serve) findMaps(
	log *slog.Logger, host, from string,
) (maps *statemap.Maps, client *kube.Client, namespace string, err error) {
	client, namespace, doubt, err := kube.FindCluster(s.Kubeconfig, "", s.Namespace)
	if err != nil {
		return nil, nil, "", err
	}
	if doubt != "" {
		log.Warn("kubeconfig is of no use", "reason", doubt)
	}
	node := ""
	if client == nil {
		log.Info("no cluster found, so no ConfigMap steers this runner; see --kubeconfig")
	} else if node, err = statemap.NodeMapName(from, host); err != nil {
		log.Warn("no node map", "reason", err.Error())
	} else {
		log.Info("node map", "name", node, "from", from)
	}
	return statemap.New(client, namespace, node, log), client, namespace, nil
}

// monitor keeps the pool in step with the GPUs that this runner may give to
// tasks.
func (s *Serve) monitor(pool *gpu.Pool, log *slog.Logger) *gpu.Monitor {
	variable := func(name string) *string {
		if value, ok := os.LookupEnv(name); ok {
			return &value
		}
		return nil
	}
	return &gpu.Monitor{
		Library: s.NVMLLibrary, Interval: s.GPUInterval, HarmlessXids: s.HarmlessXids, Pool: pool, Log: log,
		NVIDIA: variable(api.EnvNVDevices), CUDA: variable(api.EnvCUDADevices),
	}
}

// leaveMessage writes the termination message as well as it can.
func (s *Serve) leaveMessage(message string) {
	if err := observe.TerminationMessage(s.TerminationLog, message, s.TerminationLog != defaultTerminationLog); err != nil {
		complain(os.Stderr, err)
	}
}

// catchSignals delivers the signals that end a runner (R7), and lets no other end or
// stop the process but QUIT, which shows what every goroutine does. They are caught,
// not ignored: tasks would inherit that. They stay caught to the end of the
// process, whose exit code would be another otherwise.
func catchSignals() <-chan os.Signal {
	const last = syscall.Signal(64) // of the real-time ones; 32 to 34 cannot be caught in Go
	ends, others := make(chan os.Signal, 2), make(chan os.Signal, 1)
	for n := syscall.Signal(1); n <= last; n++ {
		switch n {
		case syscall.SIGQUIT, syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGURG, syscall.SIGWINCH: // harmless
		case syscall.SIGTERM, syscall.SIGINT:
			signal.Notify(ends, n)
		case syscall.SIGHUP:
			if !signal.Ignored(n) { // as by nohup: such a runner stays when its terminal goes
				signal.Notify(ends, n)
			}
		default:
			if !signal.Ignored(n) {
				signal.Notify(others, n)
			}
		}
	}
	return ends
}
