package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"

	"github.com/studioml/studio-go-runner/runner/api"
)

// defaultTerminationLog is where the kubelet reads the termination message.
const defaultTerminationLog = "/dev/termination-log"

// Serve is the configuration of a runner. It comes from flags and from the
// environment ("env maps"); the state does not, that is in the two ConfigMaps.
type Serve struct {
	Place `embed:""`

	Name  string `env:"STUDIOML_RUNNER_NAME" help:"What the runner calls itself in results and logs, and without HOSTNAME what its node map is called. Default: $${HOSTNAME}, or the machine's name."`
	Slots int    `env:"STUDIOML_SLOTS" default:"0" help:"How many tasks run at the same time; 0 means one per GPU, and one without GPUs."`

	Cluster `embed:""`

	PodName string `env:"POD_NAME" help:"Pod that Events are about and that shows the state, where runner/deploy/conditions allows it (downward API)."`
	PodUID  string `env:"POD_UID" help:"UID of that pod (downward API)."`

	Settle        time.Duration `env:"STUDIOML_SETTLE" default:"2s" help:"How long DrainAndTerminate must stand before the runner exits, and how long a deleted map keeps its effect."`
	DrainDeadline time.Duration `env:"STUDIOML_DRAIN_DEADLINE" default:"0s" help:"How long running tasks may go on in a drain; then they are stopped and requeued. 0 means for ever."`
	GracePeriod   time.Duration `env:"STUDIOML_GRACE_PERIOD" default:"${grace}" help:"How long running tasks may go on after SIGTERM; then they are stopped and requeued. With --kill-delay and ${exit_rest} for the rest of the exit it must fit the pod's terminationGracePeriodSeconds: ${exit_budget} by default, of Kubernetes' 30s."`
	KillDelay     time.Duration `env:"STUDIOML_KILL_DELAY" default:"${kill_delay}" help:"Time between TERM and KILL for the processes of a task that is stopped."`
	OnTerminate   string        `env:"STUDIOML_ON_TERMINATE" enum:"exit,park" default:"exit" help:"What to do when drained for DrainAndTerminate: ${enum}. Exit suits Jobs and bare pods; park stays alive and idle, for controllers that always restart."`

	MaxTasks int           `env:"STUDIOML_MAX_TASKS" placeholder:"N" help:"Start no more than so many tasks, then drain and exit with 0, whatever STATE says; 0 means no limit."`
	MaxIdle  time.Duration `env:"STUDIOML_MAX_IDLE" placeholder:"DURATION" help:"Exit with 0 when there was no task for so long while the runner would have taken one; 0 means never."`

	NVMLLibrary string `name:"nvml-library" env:"STUDIOML_NVML_LIBRARY" placeholder:"FILE" help:"The NVML library; none runs without GPUs. Default: libnvidia-ml.so.1 where the loader finds it."`

	GPUInterval  time.Duration `name:"gpu-interval" env:"STUDIOML_GPU_INTERVAL" default:"5s" help:"How often to look at the GPUs: which there are, and how they are. Events, as Xids, are seen at once."`
	HarmlessXids []uint64      `name:"harmless-xids" env:"STUDIOML_HARMLESS_XIDS" default:"${harmless_xids}" help:"Xids that concern only the application and leave the GPU in service; every other Xid takes it out."`

	GPULock string `name:"gpu-lock" env:"STUDIOML_GPU_LOCK" default:"/tmp/.studio-gpu-locks" placeholder:"DIR" help:"Directory of a lock for each GPU, which keeps the runners of one machine from using it at the same time; in containers it must be shared to do so. off where GPUs are time-sliced on purpose (default ${default})."`

	Listen         string `env:"STUDIOML_LISTEN" default:":8080" placeholder:"ADDRESS" help:"Where to serve /statusz, /livez, /readyz and /metrics (default ${default})."`
	LogFormat      string `env:"STUDIOML_LOG_FORMAT" enum:"text,json" default:"text" help:"How to write the log: ${enum}."`
	LogLevel       string `env:"STUDIOML_LOG_LEVEL" enum:"debug,info,warn,error" default:"info" help:"How much to log: ${enum}."`
	TerminationLog string `env:"STUDIOML_TERMINATION_LOG" default:"/dev/termination-log" placeholder:"FILE" help:"Where to leave the last sentence of the process (default ${default})."`
	OutputLimit    int64  `env:"STUDIOML_OUTPUT_LIMIT" default:"104857600" placeholder:"BYTES" help:"How much of a task's stdout, of its stderr, and of its STUDIOML_OUTPUT_DIR is stored (default ${default})."`
	DiskLimit      int64  `env:"STUDIOML_DISK_LIMIT" default:"0" placeholder:"BYTES" help:"How much the files in a task's directory may take; one that takes more is ended, as its own failure. 0 means all that there is."`

	CheckpointLimit int64 `env:"STUDIOML_CHECKPOINT_LIMIT" default:"268435456" placeholder:"BYTES" help:"How large a checkpoint may be that a task leaves to its next attempt (default ${default})."`
}

// Validate returns all that is wrong with the configuration at once.
func (s *Serve) Validate(kctx *kong.Context) error {
	const duration, number = "a duration that is not negative, as 10s", "0 or more"
	library := filepath.IsAbs(s.NVMLLibrary)
	var problems []error
	for _, c := range []struct {
		flag  string
		value any
		good  bool
		must  string
	}{
		{"settle", s.Settle, s.Settle >= 0, duration},
		{"drain-deadline", s.DrainDeadline, s.DrainDeadline >= 0, duration},
		{"grace-period", s.GracePeriod, s.GracePeriod >= 0, duration},
		{"kill-delay", s.KillDelay, s.KillDelay >= 0, duration},
		{"max-idle", s.MaxIdle, s.MaxIdle >= 0, duration},
		{"gpu-interval", s.GPUInterval, s.GPUInterval > 0, "a duration above 0, as 5s"},
		{"slots", s.Slots, s.Slots >= 0, number},
		{"max-tasks", s.MaxTasks, s.MaxTasks >= 0, number},
		{"output-limit", s.OutputLimit, s.OutputLimit >= 0, number},
		{"checkpoint-limit", s.CheckpointLimit, s.CheckpointLimit >= 0, number},
		{"disk-limit", s.DiskLimit, s.DiskLimit >= 0, number},
		{"nvml-library", s.NVMLLibrary, library || s.NVMLLibrary == "" || s.NVMLLibrary == "none", "none, or the absolute path of a library"},
		{"gpu-lock", s.GPULock, s.GPULock == "off" || filepath.IsAbs(s.GPULock), "off, or the absolute path of a directory"},
	} {
		if !c.good {
			problems = append(problems, fmt.Errorf("--%s is %s; must be %s", c.flag, api.Excerpt(fmt.Sprint(c.value)), c.must))
		}
	}
	if _, err := os.Stat(s.NVMLLibrary); library && err != nil {
		problems = append(problems, fmt.Errorf("--nvml-library: %w; name a library, none, or leave it to the loader", err))
	}
	return errors.Join(append(problems, s.Place.Validate(kctx))...)
}

// names returns what the runner calls itself, what its node map is named after, and what
// that comes from.
func (s *Serve) names() (name, host, from string, err error) {
	if host := os.Getenv("HOSTNAME"); host != "" {
		return cmp.Or(s.Name, host), host, "HOSTNAME", nil
	}
	if s.Name != "" {
		return s.Name, s.Name, "--name", nil
	}
	machine, err := os.Hostname()
	if err != nil {
		err = fmt.Errorf("find a name for the runner: %w; set --name", err)
	}
	return machine, machine, "the machine's name", err
}

// logger returns the process's logger, which never waits for w.
func (s *Serve) logger(w io.Writer, name string) (*slog.Logger, *logWriter) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		panic(err) // the flag's enum allows only levels
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.String() == "" || a.Value.Equal(slog.TimeValue(time.Time{})) { // what is not known is not logged
			return slog.Attr{}
		}
		return a
	}}
	handler := func(w io.Writer) (h slog.Handler) {
		h = slog.NewTextHandler(w, options)
		if s.LogFormat == "json" {
			h = slog.NewJSONHandler(w, options)
		}
		return h.WithAttrs([]slog.Attr{slog.String("runner", name)})
	}
	lines := newLogWriter(w, handler)
	return slog.New(handler(lines)), lines
}
