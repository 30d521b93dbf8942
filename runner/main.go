// Runner runs tasks on whole GPUs, steered by two Kubernetes ConfigMaps: runner serve
// is a runner, see serve.go for how its parts fit together, and the other commands are
// for those who have tasks in its queue. README.md is the manual, runner --help and
// runner serve --help list the commands and flags; SECURITY.md says what a task may do.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/prometheus/common/model"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// version is set by make; see the Makefile.
var version = "devel"

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// cli is the command line: the type of each command has its flags, Validate, which kong
// calls after parsing, Run, and Help, which --help says besides. Every flag can be set by
// the environment variable that --help names with it, which is what envFrom does.
type cli struct {
	Serve      Serve      `cmd:"" help:"Take tasks from the queue and run them, as the two ConfigMaps say. See 'runner serve --help'."`
	Submit     Submit     `cmd:"" help:"Put tasks into the queue: documents, or a command, as in 'runner submit --gpus=1 -- python3 train.py'."`
	Tasks      Tasks      `cmd:"" help:"Show tasks: why they wait, where they run, how they ended."`
	Logs       Logs       `cmd:"" help:"Print what a task prints, also while it runs."`
	Get        Get        `cmd:"" help:"Copy the files that a task has left."`
	Cancel     Cancel     `cmd:"" help:"Take tasks out of the queue, and stop them where they run."`
	Retry      Retry      `cmd:"" help:"Let tasks that have ended run once more."`
	Purge      Purge      `cmd:"" help:"Remove tasks that ended long ago, with their results."`
	Queue      Queue      `cmd:"" help:"Prepare a queue in a PostgreSQL server."`
	Status     Status     `cmd:"" help:"Show what a runner does, or what is in a queue."`
	State      State      `cmd:"" help:"Show the runners of a namespace: what they are asked for, by whom and why, and what they do."`
	Drain      Drain      `cmd:"" help:"Have runners take no more tasks, and wait until theirs have ended."`
	Resume     Resume     `cmd:"" help:"Let runners take tasks again."`
	Wait       Wait       `cmd:"" help:"Wait until runners are what their maps ask for: running, suspended or terminated."`
	Completion Completion `cmd:"" help:"Print what makes a shell complete the words of this program."`
	Complete   Complete   `cmd:"" hidden:""`
	Version    Version    `cmd:"" help:"Print the version."`
}

// stdio is what a command reads and writes.
type stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// run executes one command line and returns the exit code of the process; the
// codes are those of the package api.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	var c cli
	helped := false
	parser, err := kong.New(&c,
		kong.Name("runner"),
		kong.Description("Run tasks on whole GPUs, steered by two Kubernetes ConfigMaps."),
		kong.Vars{
			"harmless_xids": strings.ReplaceAll(strings.Trim(fmt.Sprint(gpu.ApplicationXids), "[]"), " ", ","),
			"grace":         lifecycle.DefaultGrace.String(), "kill_delay": lifecycle.DefaultKillDelay.String(),
			"formats": "table,wide,json,yaml", "manager": strings.TrimSuffix("runner:"+os.Getenv("USER"), ":"),
			"exit_rest":   lifecycle.ExitBudget(0, 0).String(),
			"exit_budget": lifecycle.ExitBudget(lifecycle.DefaultGrace, lifecycle.DefaultKillDelay).String(),
		},
		kong.ExplicitGroups([]kong.Group{{Key: "command", Title: "Flags for a command after --:"}}),
		kong.Writers(out, errOut),
		kong.Exit(func(int) { helped = true }), // kong exits after --help only
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
	)
	if err != nil {
		panic(err) // the struct tags are wrong, which every test would show
	}
	if i := slices.Index(args, "--"); i > 0 && args[0] == "submit" {
		c.Submit.command, args = args[i+1:], args[:i]
	}
	switch {
	case len(args) == 0:
	case args[0] == "help":
		args = append(slices.Clone(args[1:]), "--help")
	case args[0] == "--version":
		args = []string{"version"}
	}
	command, err := parser.Parse(joined(args))
	if helped {
		return api.ExitDrained
	}
	if err != nil {
		complain(errOut, fmt.Errorf("%w; see runner --help", err))
		if len(args) > 0 && args[0] == "serve" {
			// Most often a pod's environment is wrong, which its status then tells.
			c.Serve.TerminationLog = cmp.Or(c.Serve.TerminationLog, os.Getenv("STUDIOML_TERMINATION_LOG"), defaultTerminationLog)
			c.Serve.leaveMessage(err.Error())
		}
		return api.ExitError
	}
	command.BindTo(ctx, (*context.Context)(nil))
	err = command.Run(stdio{in, out, errOut})
	var code exitCode
	switch {
	case err == nil, errors.Is(err, errUnread):
		return 0
	case !errors.As(err, &code):
		code = api.ExitError
	}
	if words := strings.TrimSpace(err.Error()); words != "" {
		complain(errOut, errors.New(words))
	}
	return int(code)
}

// joined makes one argument of a flag and a number below 0, which kong takes for
// another flag.
func joined(args []string) (all []string) {
	for _, arg := range args {
		last := len(all) - 1
		if last >= 0 && belowZero.MatchString(arg) && strings.HasPrefix(all[last], "--") && !strings.Contains(all[last], "=") {
			all[last] += "=" + arg
		} else {
			all = append(all, arg)
		}
	}
	return all
}

var belowZero = regexp.MustCompile(`^-\d`)

// exitCode is the code of a process that does not end with 0 or 1. It has no words of its
// own: errors around it may have some.
type exitCode int

func (exitCode) Error() string { return "" }

type Version struct{}

func (Version) Run(io stdio) error {
	info, _ := debug.ReadBuildInfo()
	_, err := fmt.Fprintf(io.Out, "studio-go-runner %s, sources %s, %s\n", version, info.Main.Version, info.GoVersion)
	return err
}

// span is a duration that may be in days.
type span time.Duration

func (s *span) UnmarshalText(text []byte) error {
	d, err := model.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("is %s; must be a time as 30d or 12h", api.Excerpt(string(text)))
	}
	*s = span(d)
	return nil
}

// count counts from 1; 0 is what nobody has given.
type count int

func (c *count) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil || n == 0 {
		return fmt.Errorf("is %s; must be 1 or more", api.Excerpt(string(text)))
	}
	*c = count(n)
	return nil
}
