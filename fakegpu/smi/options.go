package smi

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options are those of one command line.
type options struct {
	usage, helpGPU, helpApps bool
	version, list            bool
	ids                      []string // empty for all
	idOption                 string   // as they were given
	gpuFields                []field[*gpu]
	appFields                []field[*app]
	format                   format
	formatOption             string        // as it was given
	every                    time.Duration // 0 for once
	file                     string
}

// format is what --format says.
type format struct{ noheader, nounits bool }

// option is one that a command line can have. take is called with its value, if
// it has one.
type option struct {
	names    string // -s or --long
	value    bool
	optional bool // whether the value may be left out
	take     func(o *options, value string) error
	help     string
}

func flag(names, help string, set func(o *options)) option {
	return option{names: names, help: help, take: func(o *options, _ string) error { set(o); return nil }}
}

func choices() []option {
	return []option{
		flag("-h --help", "Print this and exit.", func(o *options) { o.usage = true }),
		flag("--version", "Print the versions of the driver, NVML and CUDA and exit.", func(o *options) { o.version = true }),
		flag("-L --list-gpus", "List the GPUs and their MIG devices.", func(o *options) { o.list = true }),
		{names: "-i --id", value: true, help: "Only these GPUs: index, UUID, serial or PCI bus id, several with commas.",
			take: func(o *options, v string) error { o.ids = strings.Split(v, ","); return nil }},
		{names: "--query-gpu", value: true, help: "Print these properties of the GPUs; --help-query-gpu lists them.",
			take: func(o *options, v string) (err error) { o.gpuFields, err = pick(gpuFields(), v); return err }},
		{names: "--query-compute-apps", value: true, help: "Print these properties of processes; --help-query-compute-apps lists them.",
			take: func(o *options, v string) (err error) { o.appFields, err = pick(appFields(), v); return err }},
		{names: "--format", value: true, help: "For the queries: csv, and after commas noheader and nounits.", take: (*options).setFormat},
		{names: "-l --loop", value: true, optional: true, help: "Again and again, every so many seconds; 5 if no number is there.",
			take: func(o *options, v string) error { return o.setLoop(v, time.Second) }},
		{names: "-lms --loop-ms", value: true, help: "The same in milliseconds.",
			take: func(o *options, v string) error { return o.setLoop(v, time.Millisecond) }},
		{names: "-f --filename", value: true, help: "Print to this file.", take: func(o *options, v string) error { o.file = v; return nil }},
		flag("--help-query-gpu", "List the properties of --query-gpu.", func(o *options) { o.helpGPU = true }),
		flag("--help-query-compute-apps", "List the properties of --query-compute-apps.", func(o *options) { o.helpApps = true }),
	}
}

// mistake is what nvidia-smi prints of a command line that it does not
// understand, which scripts may look for, and how it ends.
type mistake struct {
	text string
	code int
}

func (m mistake) Error() string { return m.text }

// complain says what is wrong, and leaves a line empty, as nvidia-smi mostly does.
func complain(format string, args ...any) error {
	return mistake{fmt.Sprintf(format, args...) + "\n", exitInvalid}
}

func unknownOption(option string) error {
	return mistake{fmt.Sprintf("ERROR: Option %s is not recognized. Please run 'nvidia-smi -h'.\n", option), exitOther}
}

// parse reads a command line. A value may follow its option or an equals sign.
func parse(args []string) (options, error) {
	var o options
	for len(args) > 0 {
		args0 := args[0]
		name, value, joined := strings.Cut(args0, "=")
		args = args[1:]
		i := slices.IndexFunc(choices(), func(c option) bool { return slices.Contains(strings.Fields(c.names), name) })
		if i < 0 {
			return o, unknownOption(args0)
		}
		c := choices()[i]
		switch {
		case joined && !c.value:
			return o, complain("Option %q takes no value. Please run 'nvidia-smi -h' for help.", name)
		case c.value && !joined && len(args) > 0 && !strings.HasPrefix(args[0], "-"):
			value, args = args[0], args[1:]
		case c.value && !c.optional && value == "":
			return o, mistake{fmt.Sprintf("ERROR: Option %s is missing its value. Please run 'nvidia-smi -h' for help.\n", name), exitOther}
		}
		if name == "-i" || name == "--id" {
			o.idOption = args0
		}
		if err := c.take(&o, value); err != nil {
			return o, err
		}
	}
	return o, o.check()
}

func (o options) check() error {
	query := o.gpuFields != nil || o.appFields != nil
	switch {
	case o.gpuFields != nil && o.appFields != nil:
		return mistake{"Only one --query-* switch can be used at a time.", exitInvalid}
	case query && (o.list || o.version), o.list && o.version:
		return complain("Invalid combination of input arguments. Please run 'nvidia-smi -h' for help: only one of -L, --version and the queries can be answered at a time")
	case o.list && o.idOption != "":
		return complain("ERROR: Option %s is not valid for this command. Please run 'nvidia-smi -h' for help.", o.idOption)
	case o.formatOption != "" && !query:
		return unknownOption(o.formatOption)
	}
	return nil
}

func (o *options) setFormat(value string) error {
	o.formatOption = "--format=" + value
	for word := range strings.SplitSeq(value, ",") {
		switch strings.TrimSpace(word) {
		case "csv":
		case "noheader":
			o.format.noheader = true
		case "nounits":
			o.format.nounits = true
		default:
			return mistake{"Format modifier is not recognized.", exitInvalid}
		}
	}
	return nil
}

func (o *options) setLoop(value string, unit time.Duration) error {
	if value == "" {
		o.every = 5 * unit
		return nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > 1e6 {
		return complain("Loop time is %q, must be a whole number of at least 1.", value)
	}
	o.every = time.Duration(n) * unit
	return nil
}

// help returns what prints the help that is asked for.
func (o options) help() func(io.Writer) {
	switch {
	case o.usage:
		return usage
	case o.helpGPU:
		return func(out io.Writer) { describe("--query-gpu", gpuFields(), out) }
	case o.helpApps:
		return func(out io.Writer) { describe("--query-compute-apps", appFields(), out) }
	}
	return nil
}

func usage(out io.Writer) {
	fmt.Fprint(out, "nvidia-smi [OPTION [VALUE]] ...\n\nShows what NVML says of the GPUs. Without options: a table of them and their processes.\n\n")
	for _, c := range choices() {
		names := strings.Join(strings.Fields(c.names), ", ")
		if c.value {
			names += "="
		}
		fmt.Fprintf(out, "    %-27s %s\n", names, c.help)
	}
	fmt.Fprint(out, "\nExit codes: 0, or what NVML answers: 2 invalid argument, 3 not supported, 4 no permission, 6 no such GPU,\n"+
		"9 no driver, 12 no library, 13 unknown function, 15 a GPU is lost, 18 the driver is of another version; 255 for all else.\n")
}

// describe lists properties in a form that programs read as well: a name in
// quotes after an empty line.
func describe[T any](option string, fields []field[T], out io.Writer) {
	fmt.Fprintf(out, "List of valid properties to query for the switch %q:\n", option)
	for _, f := range fields {
		fmt.Fprintf(out, "\n\"%s\"\n%s\n", strings.Join(strings.Fields(f.names), `" or "`), f.help)
	}
	fmt.Fprintln(out)
}
