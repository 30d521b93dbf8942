// Package place is the place of one scenario as far as it is the same wherever
// runners are: a namespace with the account of its runners, the shipped
// admission policy, a queue, the tasks of the tests with their journal, fake
// GPUs, and the evidence that a failure leaves for people.
package place

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/studioml/studio-go-runner/e2e/evidence"
	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/program"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

// Ground is where runners and tasks of a place have their files.
type Ground interface {
	// Run runs a program there. What it prints on stderr is in the error; nothing
	// is written to stdout any more once Run has returned.
	Run(ctx context.Context, stdin []byte, stdout io.Writer, command ...string) error
	// Hold returns what the tasks of a group wait for: until somebody has a named pipe
	// open for writing, or a file is there.
	Hold(group string) (path string, err error)
	// Logs saves the logs that there are only there.
	Logs(ctx context.Context) error
}

// Layout says what is where. The queue is named to the runner's own commands, which
// run beside the tests; all else is on the ground.
type Layout struct {
	Runner   string // the program for submits and looks into the queue
	Submits  string // that for submits, if it is another
	Queue    string // the flag that names the queue to it
	Password string // of the queue, if it needs one
	Library  string // the fake NVML, with the program fakegpu beside it, or empty
	Journal  string // a named pipe
	Machines string // directory of the fake GPUs
	Adapter  Adapter
	Spool    string // the queue of runners of another make: a directory, or a database's URL
}

// Adapter starts runners of another make, and gives them tasks; see e2e/conformance.
// None is the runner of this repository.
type Adapter interface {
	// Run is the command line of a runner, and what its environment has more; what the
	// target adds is called as the flags of runner serve.
	Run(spec targets.RunnerSpec, added map[string]string) (command []string, env map[string]string)
	// Submit is the command line that puts tasks into a queue, a document a line.
	Submit(queue, namespace string) (command []string)
}

// Place is the part of an Env that targets share.
type Place struct {
	kube.Access
	Isolation targets.Isolation
	Ground    Ground
	Layout    Layout

	ServiceAccount *corev1.ServiceAccount // of the runners

	labels    map[string]string
	namespace string
	elsewhere string // empty before it is asked for
}

// Make makes the namespace, with these labels, and the account. What there is
// after an error, Close of the Env removes.
func (p *Place) Make(ctx context.Context, labels map[string]string) (err error) {
	p.labels = labels
	if p.namespace, err = p.createNamespace(ctx); err != nil {
		return err
	}
	return p.createAccount(ctx)
}

// createNamespace makes a namespace with a name that no other one has, and returns it.
func (p *Place) createNamespace(ctx context.Context) (string, error) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:        "runner-e2e-" + rand.String(8),
		Labels:      p.labels,
		Annotations: map[string]string{"studioml.io/e2e-scenario": p.Isolation.Name}, // for people
	}}
	if _, err := p.Admin.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return "", fmt.Errorf("create namespace: %w", err)
	}
	return ns.Name, nil
}

// Namespace is that of the runners.
func (p *Place) Namespace() string { return p.namespace }

// Namespaces are all that were made.
func (p *Place) Namespaces() []string {
	return slices.DeleteFunc([]string{p.namespace, p.elsewhere}, func(name string) bool { return name == "" })
}

// Elsewhere is a namespace in which the runners have no rights.
func (p *Place) Elsewhere(ctx context.Context) (_ string, err error) {
	if p.elsewhere == "" {
		p.elsewhere, err = p.createNamespace(ctx)
	}
	return p.elsewhere, err
}

// Evidence is the directory for what a person needs after a failure.
func (p *Place) Evidence() evidence.Dir { return evidence.Dir(p.Isolation.Evidence) }

// Collect saves objects, queue and logs, as far as they can be had in a while: an API
// server may be stopped.
func (p *Place) Collect(ctx context.Context) error {
	if p.Isolation.Evidence == "" {
		return nil
	}
	const limit = 30 * time.Second // less than the suite gives for that
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var problems []error
	if p.namespace != "" {
		problems = append(problems, p.Evidence().Objects(ctx, p.Objects(p.namespace)))
	}
	if p.Layout.Queue != "" && p.Layout.Adapter == nil { // else there is none, or nobody sees into it
		queue, err := p.Queue(ctx)
		if err == nil {
			err = p.Evidence().YAML("queue.yaml", queue)
		}
		problems = append(problems, err)
	}
	if err := errors.Join(append(problems, p.Ground.Logs(ctx))...); err != nil {
		return fmt.Errorf("collect artifacts: %w", err)
	}
	return nil
}

// Client acts as the test, with all rights.
func (p *Place) Client() kube.Access { return p.Access }

// Needs says whether the scenario has a need.
func (p *Place) Needs(need scenario.Need) bool { return slices.Contains(p.Isolation.Needs, need) }

// ServeArgs are the arguments of runner serve: what every runner of the tests
// has, what its target adds, and the scenario's flags, which win.
func ServeArgs(spec targets.RunnerSpec, added map[string]string) []string {
	flags := map[string]string{
		"name":       spec.Name,
		"slots":      strconv.Itoa(spec.Slots),
		"settle":     "200ms",
		"log-format": "json",
		"log-level":  "debug",
	}
	maps.Copy(flags, added)
	for flag, value := range spec.Flags {
		flags[string(flag)] = value
	}
	return append([]string{"serve"}, program.Flags(flags)...)
}
