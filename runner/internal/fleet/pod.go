package fleet

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/statemap"
)

// Selector finds the pods of runners, as all that we ship are labelled.
const Selector = "app.kubernetes.io/name=studio-go-runner"

// Pod is what counts of a pod.
type Pod struct {
	Metadata struct {
		statemap.Metadata
		Created time.Time  `json:"creationTimestamp"`
		Deleted *time.Time `json:"deletionTimestamp"`
	} `json:"metadata"`
	Spec struct {
		NodeName    string `json:"nodeName"`
		Hostname    string `json:"hostname"`
		HostNetwork bool   `json:"hostNetwork"`
		Containers  []struct {
			Name string `json:"name"`
			Env  []struct{ Name, Value string }
		} `json:"containers"`
	} `json:"spec"`
	Status struct {
		Phase, Reason, Message string
		Conditions             []struct {
			Type, Status, Message string
			Since                 time.Time `json:"lastTransitionTime"`
		} `json:"conditions"`
		Containers []containerStatus `json:"containerStatuses"`
	} `json:"status"`
}

type containerStatus struct {
	Name             string
	State, LastState container
}

// container is one of three.
type container struct {
	Waiting             *struct{ Reason, Message string }
	Running, Terminated *struct {
		StartedAt       time.Time
		ExitCode        int
		Reason, Message string
	}
}

// runnersContainer is the name of a pod's container that has the runner, where it is
// not the first.
const runnersContainer = "runner"

// nodeMap is the name that the runner's HOSTNAME gives to its node map, as far as the
// pod tells.
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
	return cmp.Or(p.Spec.Hostname, p.Metadata.Name)
}

// state returns the runner's container, and the one before it.
func (p *Pod) state() (now, before container) {
	all := p.Status.Containers
	if len(all) == 0 {
		return now, before
	}
	i := max(0, slices.IndexFunc(all, func(c containerStatus) bool { return c.Name == runnersContainer }))
	return all[i].State, all[i].LastState
}

// running says whether the runner's container runs, as far as is known.
func (p *Pod) running() bool {
	now, _ := p.state()
	return now.Running != nil || now == container{}
}

func (p *Pod) ended() bool { return p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" }

// report is what the runner says of itself; nil if that was none, or the one in a
// container before.
func (p *Pod) report() *api.Status {
	s := new(api.Status)
	if json.Unmarshal([]byte(p.Metadata.Annotations[api.AnnotationStatus]), s) != nil {
		return nil
	}
	now, before := p.state()
	for _, c := range []container{now, before} {
		if started := cmp.Or(c.Running, c.Terminated); started != nil {
			if s.Started.Before(started.StartedAt) {
				return nil
			}
			break
		}
	}
	return s
}

// trouble says what may keep the runner from doing what it is asked for.
func (p *Pod) trouble() string {
	now, before := p.state()
	switch {
	case p.ended():
		end := cmp.Or(now.Terminated, before.Terminated)
		if end == nil {
			return fmt.Sprintf("has ended: %s", cmp.Or(p.Status.Message, p.Status.Reason, p.Status.Phase))
		}
		return fmt.Sprintf("has ended with %d: %s", end.ExitCode, cmp.Or(end.Message, p.Status.Message, end.Reason))
	case p.Metadata.Deleted != nil:
		return "its pod is being deleted"
	case now.Waiting != nil && before.Terminated != nil:
		return fmt.Sprintf("%s: it has ended with %d: %s", now.Waiting.Reason, before.Terminated.ExitCode, cmp.Or(before.Terminated.Message, before.Terminated.Reason))
	case now.Waiting != nil:
		return strings.TrimSuffix(now.Waiting.Reason+": "+now.Waiting.Message, ": ")
	}
	for _, c := range p.Status.Conditions {
		switch {
		case c.Status == "True":
		case c.Type == "PodScheduled":
			return "waits for a node: " + c.Message
		case c.Type == "Ready" && p.Status.Phase == "Running":
			return "not ready since " + c.Since.Local().Format(time.DateTime)
		}
	}
	if p.Status.Phase == "Pending" {
		return "pending"
	}
	return ""
}
