// Command fakegpu makes fake GPUs and runs programs on them.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/studioml/studio-go-runner/fakegpu"
)

type cli struct {
	Library string `env:"FAKEGPU_LIBRARY" placeholder:"FILE" help:"The fake libnvidia-ml.so.1; by default the one beside this program."`

	Create create `cmd:"" help:"Make a state directory with GPUs, or replace the GPUs of one."`
	List   list   `cmd:"" help:"List the GPUs of a state directory, and what is wrong with them."`
	Set    set    `cmd:"" help:"Change values of a GPU, as temperature=85 or memory_used=10Gi, and its processes."`
	Load   work   `cmd:"" help:"Let a GPU work, as at 80%: utilization, clocks, power, heat, link and memory move together."`
	Idle   idle   `cmd:"" help:"Let a GPU rest: no process uses it."`
	Inject inject `cmd:"" help:"Make something go wrong."`
	Heal   heal   `cmd:"" help:"Repair and reset a GPU: it is not lost, has no faults and no fresh errors."`
	Add    add    `cmd:"" help:"Plug more GPUs in."`
	Remove remove `cmd:"" help:"Take a GPU out of the machine."`
	MIG    mig    `cmd:"" name:"mig" help:"Divide a GPU into MIG devices; without profiles, make it whole again."`

	Machine versions `cmd:"" help:"Change the versions of the driver, as driver=580.95.05 cuda=13.0."`

	Watch watch `cmd:"" help:"Print each change and each event, until it is interrupted."`
	Env   env   `cmd:"" help:"Print what to export so that programs see the GPUs of a state directory."`
	Exec  run   `cmd:"" help:"Run a program on GPUs that last as long as it does."`

	SMI     smiRun     `cmd:"" name:"smi" passthrough:"" help:"Show GPUs as nvidia-smi does; by that name this program does nothing else. See smi --help."`
	Capture captureRun `cmd:"" help:"Print the profile of a GPU that NVML shows, a real one as well; create --profile takes it as a file."`

	Install install `cmd:"" help:"Copy this command and the library to a directory, as that of a Kubernetes node."`
}

// machine are the flags that say which GPUs to make.
type machine struct {
	Profile *string `placeholder:"T4" xor:"profile" help:"Model of the GPUs: ${profiles}, or a file that ends in .yaml."`
	Count   *int    `placeholder:"1" xor:"count" help:"How many, 0 to 64."`
	GPUs    []model `name:"gpus" sep:"none" xor:"profile,count" placeholder:"PROFILE=COUNT" help:"Instead of both, for several models: --gpus H100-80GB=4 --gpus T4=2, in this order."`
	Seed    string  `default:"fakegpu" help:"Makes the UUIDs; the same seed gives the same ones."`
}

func (m machine) spec() fakegpu.Spec {
	s := fakegpu.Spec{Profile: "T4", Count: 1, Seed: m.Seed}
	if m.Profile != nil {
		s.Profile = *m.Profile
	}
	if m.Count != nil {
		s.Count = *m.Count
	}
	for _, of := range m.GPUs {
		s.Models = append(s.Models, fakegpu.Model(of))
	}
	return s
}

// model is a number of GPUs of one profile.
type model fakegpu.Model

// UnmarshalText takes PROFILE=COUNT.
func (m *model) UnmarshalText(text []byte) error {
	profile, count, _ := strings.Cut(string(text), "=")
	n, err := strconv.Atoi(count)
	if err != nil {
		return fmt.Errorf("GPUs are %.120q, must be PROFILE=COUNT, as H100-80GB=4", text)
	}
	*m = model{profile, n}
	return nil
}

// gpu names what a command is about.
type gpu struct {
	Dir string `arg:"" help:"The state directory."`
	GPU string `arg:"" name:"gpu" help:"Index, UUID, a beginning of the UUID that is unique, or all."`
}

func main() {
	args := os.Args[1:]
	if filepath.Base(os.Args[0]) == nvidiaSMI {
		args = append([]string{"smi"}, args...)
	}
	os.Exit(execute(args, os.Stdout, os.Stderr))
}

// execute runs one command line and returns the exit code.
func execute(args []string, stdout, stderr io.Writer) int {
	var c cli
	helped := false
	fakegpu.Waiting = func(dir string) {
		fmt.Fprintf(stderr, "fakegpu: another program is changing %s; waiting for it\n", dir)
	}
	parser, err := kong.New(&c, kong.Name("fakegpu"), kong.Description("Fake NVIDIA GPUs for any program that asks NVML."),
		kong.Vars{"profiles": strings.Join(fakegpu.Profiles(), ", ")},
		kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true }))
	if err != nil {
		panic(err) // the struct tags are wrong
	}
	command, err := parser.Parse(args)
	if helped {
		return 0
	}
	if err == nil {
		out := &output{Writer: stdout}
		command.BindTo(out, (*io.Writer)(nil))
		err = command.Run(&c)
		err = cmp.Or(err, out.err)
	}
	var code status
	if errors.As(err, &code) {
		return int(code)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()) // as a shell has it
		}
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(stderr, "fakegpu:", err)
		return 1
	}
	return 0
}

// output keeps the first error of what a command prints.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(text []byte) (int, error) {
	n, err := o.Writer.Write(text)
	o.err = cmp.Or(o.err, err)
	return n, err
}

type create struct {
	Dir string `arg:"" help:"The state directory."`
	machine
	InitError code `placeholder:"CODE" help:"What nvmlInit returns, as 9 or DRIVER_NOT_LOADED."`
	IfAbsent  bool `help:"Keep the GPUs of a state directory that has some."`
}

func (c create) Run() error {
	if c.IfAbsent {
		if absent, err := c.absent(); err != nil || !absent {
			return err
		}
	}
	spec := c.spec()
	spec.InitError = uint64(c.InitError)
	_, err := fakegpu.Create(c.Dir, spec)
	return err
}

type list struct {
	Dir string `arg:"" env:"FAKEGPU_STATE" help:"The state directory."`
}

func (l list) Run(out io.Writer) error {
	m, err := fakegpu.Load(l.Dir)
	if wrong := m.Ailments(); len(wrong) > 0 {
		fmt.Fprintf(out, "machine  %s\n", strings.Join(wrong, ", "))
	}
	for i, g := range m.GPUs {
		columns := []string{strconv.Itoa(i), g.UUID, g.Name, fmt.Sprintf("%d MiB", g.Numbers["memory"]>>20)}
		if wrong := g.Ailments(); len(wrong) > 0 {
			columns = append(columns, strings.Join(wrong, ", "))
		}
		fmt.Fprintln(out, strings.Join(columns, "  "))
		for _, d := range g.MIGs {
			fmt.Fprintf(out, "   %s  MIG %s  %d MiB\n", d.UUID, g.MIGName(d), d.Memory>>20)
		}
	}
	return err
}

type set struct {
	gpu
	Values      []string  `arg:"" optional:"" name:"key=value" help:"The keys are in fakegpu's README; bytes may be given as 10Gi."`
	Process     []process `sep:"none" xor:"processes" placeholder:"PID=BYTES" help:"A process that uses the GPU: 1234=2Gi, or with more about it 1234=2Gi,type=compute,sm=30,name=python3 train.py. All of them at once: those that are not named end."`
	NoProcesses bool      `xor:"processes" help:"No process uses the GPU any more."`
}

func (s set) Run() error {
	if len(s.Process) == 0 && !s.NoProcesses {
		if len(s.Values) == 0 {
			return errors.New("nothing is to be set; name KEY=VALUE, --process or --no-processes")
		}
		return fakegpu.Set(s.Dir, s.GPU, s.Values...)
	}
	var processes []fakegpu.Process
	for _, p := range s.Process {
		processes = append(processes, fakegpu.Process(p))
	}
	return fakegpu.SetProcesses(s.Dir, s.GPU, processes, s.Values...)
}

type work struct {
	gpu
	Percent percent `arg:"" help:"How much, as 80%."`
}

func (w work) Run() error { return fakegpu.SetLoad(w.Dir, w.GPU, uint64(w.Percent)) }

// percent is a part of the whole.
type percent uint64

// UnmarshalText takes 80 or 80%.
func (p *percent) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(strings.TrimSuffix(string(text), "%"), 10, 64)
	if err != nil {
		return fmt.Errorf("load is %.120q, must be a percentage, as 80%%", text)
	}
	*p = percent(n)
	return nil
}

type idle struct{ gpu }

func (i idle) Run() error { return fakegpu.Idle(i.Dir, i.GPU) }

type versions struct {
	Dir    string   `arg:"" help:"The state directory."`
	Values []string `arg:"" name:"key=value" help:"driver, nvml or cuda, as driver=580.95.05 cuda=13.0; nvml follows if it is not said."`
}

func (v versions) Run() error { return fakegpu.SetMachine(v.Dir, v.Values...) }

type heal struct {
	Dir string `arg:"" help:"The state directory."`
	GPU whose  `arg:"" name:"gpu" help:"Index, UUID, a beginning of the UUID that is unique, machine for the faults that are of no GPU, or all for everything."`
}

func (h heal) Run() error { return fakegpu.Heal(h.Dir, h.GPU.gpu()) }

type add struct {
	Dir string `arg:"" help:"The state directory."`
	machine
}

func (a add) Run() error { return fakegpu.Add(a.Dir, a.spec()) }

type remove struct{ gpu }

func (r remove) Run() error { return fakegpu.Remove(r.Dir, r.GPU) }

type mig struct {
	gpu
	Profiles []string `arg:"" optional:"" name:"profile" help:"As 1g.10gb 3g.40gb, for GPU instances in this order."`
}

func (m mig) Run() error { return fakegpu.SplitMIG(m.Dir, m.GPU, m.Profiles...) }

type watch struct {
	Dir string `arg:"" env:"FAKEGPU_STATE" help:"The state directory."`
}

func (w watch) Run(out io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return fakegpu.Watch(ctx, w.Dir, out)
}

type env struct {
	Dir string `arg:"" help:"The state directory."`
}

func (e env) Run(c *cli, out io.Writer) error {
	vars, err := c.environment(e.Dir)
	for _, v := range vars {
		key, value, _ := strings.Cut(v, "=")
		fmt.Fprintf(out, "export %s='%s'\n", key, strings.ReplaceAll(value, "'", `'\''`))
	}
	return err
}

func (c *cli) environment(dir string) ([]string, error) {
	library, err := c.library()
	if err != nil {
		return nil, err
	}
	return fakegpu.Environment(dir, library)
}

type run struct {
	machine
	InitError code     `placeholder:"CODE" help:"What nvmlInit returns."`
	Trace     string   `placeholder:"FILE" help:"Append a line for each NVML call and its answer to this file."`
	Command   []string `arg:"" passthrough:"" help:"The program and its arguments, after --."`
}

func (r run) Run(c *cli) error {
	library, err := c.library()
	if err != nil {
		return err
	}
	args := r.Command
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return errors.New("no program is named; put it after --")
	}
	spec := r.spec()
	spec.InitError = uint64(r.InitError)
	return fakegpu.Exec(library, spec, func(vars []string) error {
		if r.Trace != "" {
			trace, err := filepath.Abs(r.Trace)
			if err != nil {
				return err
			}
			vars = append(vars, fakegpu.EnvTrace+"="+trace)
		}
		program := exec.Command(args[0], args[1:]...)
		if filepath.Base(args[0]) == args[0] { // it has another PATH than this process
			if beside, err := exec.LookPath(filepath.Join(filepath.Dir(library), args[0])); err == nil {
				program = exec.Command(beside, args[1:]...)
			}
		}
		program.Stdin, program.Stdout, program.Stderr = os.Stdin, os.Stdout, os.Stderr
		program.Env = append(os.Environ(), vars...)
		return runToEnd(program)
	})
}

// runToEnd runs a program and passes on to it what would end this one: the GPUs
// must outlive it, and then be cleaned up.
func runToEnd(program *exec.Cmd) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := program.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- program.Wait() }()
	for {
		select {
		case err := <-ended:
			return err
		case s := <-signals:
			if err := program.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return fmt.Errorf("pass on %s: %w", s, err)
			}
		}
	}
}
