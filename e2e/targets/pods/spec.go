package pods

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"strings"
	"text/template"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// What pod.yaml calls so.
const (
	runnerContainer = "runner" // of the shipped Job
	beside          = "beside"
	journal         = "/e2e/journal"
	releases        = "/e2e/release-"
	machines        = "/e2e/gpus"
)

var (
	//go:embed pod.yaml
	podYAML string
	//go:embed beside.sh
	besideScript string

	manifests = template.Must(template.New("").Funcs(template.FuncMap{
		"beside": func() string { return besideScript },
		"json": func(value any) (string, error) {
			text, err := json.Marshal(value)
			return string(text), err
		},
	}).Parse(podYAML))
)

// parts are what pod.yaml asks for.
type parts struct {
	Name, Image   string
	Command, Args []string
	Env           map[string]string
	Program       bool   // it is no runner's
	Idle          bool   // the queue is its own, and no task notes anything
	Port          string // of our runner; nobody knows it of one of another make
	GPUs          int    // of the cluster
	Fake          bool   // so are these GPUs
	RuntimeClass  string
}

// text is one of the templates of pod.yaml.
func (p parts) text(name string) string {
	var text strings.Builder
	if err := manifests.ExecuteTemplate(&text, name, p); err != nil {
		panic(err) // we made it
	}
	return text.String()
}

// Sidecar is a JSON patch: what a shipped workload has to have for its tasks to be heard.
func Sidecar(image string) string { return parts{Image: image}.text("workload") }

// pod is that of the shipped Job with these parts, and with a directory of the tests in
// place of the queue's. All pods of a scenario are made from it.
func (e *env) pod(ctx context.Context, p parts) (*corev1.Pod, error) {
	job, err := kube.ShippedOne[*batchv1.Job](ctx, "job/job.yaml")
	if err != nil {
		return nil, err
	}
	p.Image = e.target.Config.Image
	shipped, err := json.Marshal(job.Spec.Template)
	if err != nil {
		return nil, err
	}
	patch, err := yaml.YAMLToJSON([]byte(p.text("pod")))
	if err != nil {
		return nil, err
	}
	merged, err := strategicpatch.StrategicMergePatch(shipped, patch, corev1.Pod{})
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{}
	return pod, json.Unmarshal(merged, pod)
}

// create makes a pod, and waits until it is known: from then on, no such pod means that it
// has gone.
func (e *env) create(ctx context.Context, p parts) (*runner, error) {
	pod, err := e.pod(ctx, p)
	if err != nil {
		return nil, err
	}
	if pod, err = e.Admin.CoreV1().Pods(e.Namespace()).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	r := &runner{e, pod}
	_, err = e.await(ctx, pod.Name, r.is)
	return r, err
}

// runnerParts are those of a runner's pod.
func (e *env) runnerParts(spec targets.RunnerSpec) (p parts, err error) {
	p = parts{Name: spec.Name, Env: map[string]string{}, Idle: e.idle()}
	before, command := "", []string{"runner"}
	if e.Layout.Adapter != nil {
		last := corev1.TerminationMessagePathDefault
		added := map[string]string{"spool": e.Layout.Spool, "namespace": e.Namespace(), "termination-log": last}
		var env map[string]string
		command, env = e.Layout.Adapter.Run(spec, added)
		maps.Copy(p.Env, env)
	} else {
		p.Args = place.ServeArgs(spec, nil)
		if _, p.Port, err = net.SplitHostPort(cmp.Or(spec.Flags["listen"], ":8080")); err != nil {
			return p, fmt.Errorf("flag listen: %w", err)
		}
	}
	switch spec.Hostname {
	case "":
	case scenario.NoHost:
		before = "unset HOSTNAME; "
	default:
		p.Env["HOSTNAME"] = spec.Hostname
	}
	if spec.GPUs > 0 {
		made, err := e.gpus(&p, spec)
		if err != nil {
			return p, err
		}
		before += made
	}
	if before != "" || e.Layout.Adapter != nil {
		p.Command = append([]string{"/bin/sh", "-c", before + `exec "$@"`, "sh"}, command...)
	}
	return p, nil
}
