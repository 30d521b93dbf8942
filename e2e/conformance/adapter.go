package conformance

import (
	"fmt"
	"strconv"
	"time"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

// Adapter is the command line of a program that starts runners of another make, and
// gives them tasks, when it is called with run or submit behind it. What it finds in
// its environment is described in README.md.
type Adapter []string

// The words behind an adapter's command line.
const (
	adapterRun    = "run"
	adapterSubmit = "submit"
)

// variables are those of a runner, by what ServeArgs calls the same.
var variables = map[string]string{
	"name": "CONFORMANCE_NAME", "slots": "CONFORMANCE_SLOTS", "settle": "CONFORMANCE_SETTLE", "drain-deadline": "CONFORMANCE_DRAIN_DEADLINE",
	"spool": "CONFORMANCE_QUEUE", "namespace": "CONFORMANCE_NAMESPACE", "termination-log": "CONFORMANCE_TERMINATION_LOG", "kubeconfig": "KUBECONFIG",
}

// Run is the command line of a runner, and what its environment has more; what the
// target adds is called as the flags of runner serve.
func (a Adapter) Run(spec targets.RunnerSpec, added map[string]string) (command []string, env map[string]string) {
	env = map[string]string{variables["name"]: spec.Name, variables["slots"]: strconv.Itoa(spec.Slots)}
	for _, name := range adapterFlags {
		if d, err := time.ParseDuration(spec.Flags[scenario.Flag(name)]); err == nil {
			env[variables[name]] = fmt.Sprint(d.Seconds())
		}
	}
	for name, value := range added {
		if variable, ok := variables[name]; ok {
			env[variable] = value
		}
	}
	return append(a[:len(a):len(a)], adapterRun), env
}

// Submit is the command line that puts tasks into a queue, a document a line.
func (a Adapter) Submit(queue, namespace string) (command []string) {
	command = append([]string{"env", variables["spool"] + "=" + queue, variables["namespace"] + "=" + namespace}, a...)
	return append(command, adapterSubmit)
}

// adapterFlags are the flags of a scenario's runner that adapters know, in seconds.
var adapterFlags = scenario.Words(scenario.Flag("settle"), "drain-deadline")
