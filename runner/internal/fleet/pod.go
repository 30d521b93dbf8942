package fleet

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Pod is what counts of a pod.
type Pod struct {
	Metadata metav1.ObjectMeta
	Spec     struct {
		NodeName, Hostname string
		HostNetwork        bool
		Containers         []struct {
			Env []struct{ Name, Value string }
		}
	}
	Status struct {
		Phase, Reason, Message string
		Conditions             []struct {
			Type, Status, Message string
			LastTransitionTime    time.Time
		}
		ContainerStatuses []container
	}
}

type container struct {
	Name             string
	State, LastState struct{ Waiting, Running, Terminated *stage }
}

// stage is what a container is or was in.
type stage struct {
	StartedAt       time.Time
	ExitCode        int
	Reason, Message string
}

// longestHostname is the kernel's limit.
const longestHostname = 63

// nodeMap is the name that HOSTNAME gives to the runner's node map, as far as the pod tells.
func (p *Pod) nodeMap() string {
	for _, c := range p.Spec.Containers {
		for _, variable := range c.Env {
			if variable.Name == "HOSTNAME" && variable.Value != "" {
				return variable.Value
			}
		}
	}
	if p.Spec.HostNetwork {
		return p.Spec.NodeName
	}
	name := cmp.Or(p.Spec.Hostname, p.Metadata.Name)
	return strings.TrimRight(name[:min(len(name), longestHostname)], "-.") // as the kubelet does
}

func (p *Pod) ended() bool { return p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" }

// container is the runner's, by its name or as the only one.
func (p *Pod) container() (none container) {
	for _, c := range p.Status.ContainerStatuses {
		if c.Name == "runner" || len(p.Status.ContainerStatuses) == 1 {
			return c
		}
	}
	return none
}

// report is what the runner says of itself, unless that was before its container was
// started again.
func (p *Pod) report() *api.Status {
	s, c := new(api.Status), p.container()
	last := cmp.Or(c.State.Running, c.State.Terminated, c.LastState.Terminated, new(stage))
	if json.Unmarshal([]byte(p.Metadata.Annotations[api.AnnotationStatus]), s) != nil || s.Started.Before(last.StartedAt) {
		return nil
	}
	return s
}

// trouble says what may keep the runner from doing what it is asked for.
func (p *Pod) trouble() string {
	c := p.container()
	end := cmp.Or(c.State.Terminated, c.LastState.Terminated)
	var text []string
	switch waiting := c.State.Waiting; {
	case p.Metadata.DeletionTimestamp != nil:
		return "its pod is being deleted"
	case p.ended() && end == nil:
		return "has ended: " + cmp.Or(p.Status.Message, p.Status.Reason, p.Status.Phase)
	case waiting != nil:
		text = append(text, cmp.Or(waiting.Reason, "its container waits"))
		if end == nil {
			text = append(text, waiting.Message)
		}
	}
	if end != nil && c.State.Running == nil {
		text = append(text, fmt.Sprintf("has ended with %d", end.ExitCode), cmp.Or(end.Message, end.Reason))
	}
	for _, condition := range p.Status.Conditions {
		if len(text) == 0 && condition.Status != "True" && slices.Contains([]string{"PodScheduled", "Ready"}, condition.Type) {
			text = append(text, fmt.Sprintf("%s, not %s since %s", p.Status.Phase, condition.Type, condition.LastTransitionTime.Local().Format(time.DateTime)), condition.Message)
		}
	}
	return strings.Join(slices.DeleteFunc(text, func(s string) bool { return s == "" }), ": ")
}
