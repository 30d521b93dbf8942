package fleet

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
	"github.com/studioml/studio-go-runner/runner/internal/statemap"
)

// Runner is what is asked of a runner, and what it does about it.
type Runner struct {
	Name string `json:"name"` // of its node map
	Pod  string `json:"pod,omitempty"`
	Node string `json:"node,omitempty"` // of Kubernetes

	// What the maps ask for, by which of them, who said so and when, and why.
	Effective api.State     `json:"effective,omitempty"`
	Source    api.Source    `json:"source,omitempty"`
	Shadowed  *api.Shadowed `json:"shadowed,omitempty"`
	SetBy     string        `json:"setBy,omitempty"`
	SetAt     time.Time     `json:"setAt,omitzero"`
	Reason    string        `json:"reason,omitempty"`
	Deadline  string        `json:"deadline,omitempty"`

	// Phase is what is so; Unknown where nothing is reported. Tasks and GPUs are those
	// of the report.
	Phase  api.Phase `json:"phase"`
	Since  time.Time `json:"since,omitzero"`
	Tasks  int       `json:"tasks"` // it runs, or has fetched
	Oldest time.Time `json:"oldest,omitzero"`
	GPUs   GPUs      `json:"gpus"`

	// Seen is whether it has acted on the newest version of both maps.
	Seen bool `json:"seen"`
	// Problem is what may keep it from that.
	Problem string `json:"problem,omitempty"`
	// Stray is a map that is no runner's; then there is no more than the map.
	Stray bool `json:"stray,omitempty"`
	// Ended is a runner that will not come back.
	Ended bool `json:"ended,omitempty"`

	alive    bool      // its container runs, as far as is known
	obeys    api.State // what it acts on
	reported bool
}

// GPUs counts them.
type GPUs struct {
	Used    int `json:"used"`
	Healthy int `json:"healthy"`
	All     int `json:"all"`
}

// Runners says what the pods and the maps of a namespace mean, sorted by names. The
// maps must not be older than the pods, or it would be seen what nobody has asked for.
func Runners(pods []Pod, all []statemap.ConfigMap) (runners []Runner) {
	byName := map[string]*statemap.ConfigMap{}
	for i := range all {
		byName[all[i].Metadata.Name] = &all[i]
	}
	names := map[string]bool{api.GlobalMapName: true}
	for _, p := range current(pods) {
		r := runner(&p, byName)
		names[r.Name] = true
		runners = append(runners, r)
	}
	for _, m := range all {
		if v := m.View(); !names[v.Name] && steers(&m) {
			near := api.DidYouMean(v.Name, slices.Sorted(maps.Keys(names)))
			r := Runner{Name: v.Name, Phase: api.PhaseUnknown, Stray: true, Problem: "no runner here has this map" + near}
			r.Effective, r.Source = api.State(strings.TrimSpace(v.Value)), api.SourceNode
			r.setBy(&m)
			runners = append(runners, r)
		}
	}
	slices.SortStableFunc(runners, func(a, b Runner) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Pod, b.Pod))
	})
	return runners
}

// current leaves out the pods that have ended and have a successor of the same name.
func current(pods []Pod) []Pod {
	newest := map[string]time.Time{}
	for _, p := range pods {
		if name := p.nodeMap(); p.Metadata.Created.After(newest[name]) {
			newest[name] = p.Metadata.Created
		}
	}
	return slices.DeleteFunc(slices.Clone(pods), func(p Pod) bool {
		return p.ended() && p.Metadata.Created.Before(newest[p.nodeMap()])
	})
}

// steers says whether somebody wanted to steer a runner with a map.
func steers(m *statemap.ConfigMap) bool {
	state := func(key string) bool { return strings.EqualFold(key, api.StateKey) }
	return slices.ContainsFunc(slices.Collect(maps.Keys(m.Data)), state) || slices.ContainsFunc(slices.Collect(maps.Keys(m.BinaryData)), state)
}

// runner says what a pod and the maps mean. What a map that says nothing valid meant
// before (R3) is what its runner has reported.
func runner(p *Pod, all map[string]*statemap.ConfigMap) Runner {
	r := Runner{Name: p.nodeMap(), Pod: p.Metadata.Name, Node: p.Spec.NodeName, Phase: api.PhaseUnknown, Problem: p.trouble()}
	r.alive, r.Ended = p.running(), p.Status.Phase == "Succeeded"
	report := cmp.Or(p.report(), new(api.Status))
	node := report.Maps.Node
	if node != nil {
		r.Name = node.Name
	}
	snapshot, memory := lifecycle.Snapshot{Global: view(api.GlobalMapName, all)}, lifecycle.Memory{}
	if report.Maps.Global == nil || node != nil {
		snapshot.Node = view(r.Name, all)
	}
	if global := report.Maps.Global; global != nil {
		r.reported = true
		memory.Global = global.Value
		r.Seen = saw(snapshot.Global, global) && (node == nil || saw(snapshot.Node, node))
	}
	if node != nil {
		memory.Node = node.Value
	}
	_, resolved := lifecycle.Resolve(memory, snapshot, time.Time{}, 0)
	r.Effective, r.Source, r.Shadowed = resolved.Effective, resolved.Source, resolved.Shadowed
	switch r.Source {
	case api.SourceGlobal:
		r.setBy(all[api.GlobalMapName])
	case api.SourceNode:
		r.setBy(all[r.Name])
	}
	for _, problem := range []*lifecycle.Problem{resolved.GlobalProblem, resolved.NodeProblem} {
		if problem != nil {
			r.Problem = strings.TrimPrefix(r.Problem+"; "+problem.Text, "; ")
		}
	}
	r.report(report)
	if p.ended() {
		r.Phase = api.PhaseTerminated
	} else if !r.reported && r.Problem == "" {
		r.Problem = "does not say what it does: it may not write to its pod (see the component runner/deploy/conditions), or has not yet"
	}
	return r
}

// report copies what a runner says of itself.
func (r *Runner) report(s *api.Status) {
	if !r.reported {
		return
	}
	r.Phase, r.Since, r.obeys = s.Phase, s.Since, s.Effective
	if s.Source == api.SourceSignal || s.Source == api.SourceLimit {
		r.Source, r.Shadowed, r.obeys = s.Source, s.Shadowed, api.DrainAndTerminate
	}
	r.Tasks = s.Tasks.Running + s.Tasks.Waiting
	if len(s.InFlight) > 0 {
		r.Oldest = s.InFlight[0].Started
	}
	for _, g := range s.GPUs {
		r.GPUs.All++
		if g.Health == api.Healthy {
			r.GPUs.Healthy++
		}
		if g.Task != "" {
			r.GPUs.Used++
		}
	}
}

// view is what a map says, which may not be there.
func view(name string, all map[string]*statemap.ConfigMap) lifecycle.View {
	if m := all[name]; m != nil {
		return m.View()
	}
	return lifecycle.View{Name: name, Known: true}
}

// saw says whether a runner has seen a map as it is, or a later version.
func saw(v lifecycle.View, s *api.MapStatus) bool {
	if !v.Present || !s.Present {
		return v.Present == s.Present
	}
	order, err := resourceversion.CompareResourceVersion(s.ResourceVersion, v.ResourceVersion)
	return err == nil && order >= 0
}

// setBy notes who has set the STATE of a map last, and why.
func (r *Runner) setBy(m *statemap.ConfigMap) {
	v := m.View()
	r.Reason, _ = api.ParseReason(v.Why)
	r.Deadline, _ = api.ParseDeadline(v.Deadline)
	for _, entry := range m.Metadata.ManagedFields {
		var fields struct {
			Data map[string]json.RawMessage `json:"f:data"`
		}
		if entry.FieldsV1 == nil || json.Unmarshal(entry.FieldsV1.Raw, &fields) != nil || fields.Data["f:"+api.StateKey] == nil {
			continue
		}
		at := time.Time{}
		if entry.Time != nil {
			at = entry.Time.Time
		}
		if r.SetBy == "" || at.After(r.SetAt) {
			r.SetBy, r.SetAt = entry.Manager, at
		}
	}
}
