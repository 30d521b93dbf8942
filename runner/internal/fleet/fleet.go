// Package fleet says what the runners of a namespace are asked for and what they do,
// from their pods and maps alone. It asks no runner, and changes nothing.
package fleet

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

	// What the maps ask for, which of them does, who has set it when, and why.
	Effective api.State     `json:"effective,omitempty"`
	Source    api.Source    `json:"source,omitempty"`
	Shadowed  *api.Shadowed `json:"shadowed,omitempty"`
	SetBy     string        `json:"setBy,omitempty"`
	SetAt     time.Time     `json:"setAt,omitzero"`
	Reason    string        `json:"reason,omitempty"`

	// Phase is what is so, Seen whether both maps were seen as they are, and Problem what
	// may keep the runner from acting on them.
	Phase   api.Phase `json:"phase"`
	Seen    bool      `json:"seen"`
	Problem string    `json:"problem,omitempty"`
	// Stray is a map that is no runner's, Ended a runner that does not come back.
	Stray bool `json:"stray,omitempty"`
	Ended bool `json:"ended,omitempty"`
	// Report is what the runner said last of itself.
	Report *api.Status `json:"report,omitempty"`

	alive bool // its container runs, as far as is known
	fades bool // a map that it obeys is gone, which it has not confirmed yet (R6)
}

// Runners says what the pods and the maps of a namespace mean. The maps must not be
// older than the pods, or something would be so that nobody has asked for.
func Runners(pods []Pod, all []statemap.ConfigMap) (runners []Runner) {
	byName := map[string]*statemap.ConfigMap{}
	for i := range all {
		byName[all[i].Metadata.Name] = &all[i]
	}
	names := map[string]bool{api.GlobalMapName: true}
	slices.SortFunc(pods, func(a, b Pod) int { return b.Metadata.CreationTimestamp.Compare(a.Metadata.CreationTimestamp.Time) })
	for _, p := range pods {
		if r := newRunner(&p, byName); !p.ended() || !names[r.Name] { // else it has a successor
			names[r.Name] = true
			runners = append(runners, r)
		}
	}
	for _, m := range all {
		if v := m.View(); !names[v.Name] && (v.Value != "" || v.InBinaryData || strings.EqualFold(v.Instead, api.StateKey)) {
			near := api.DidYouMean(v.Name, slices.Sorted(maps.Keys(names)))
			r := Runner{Name: v.Name, Stray: true, Phase: api.PhaseUnknown, Problem: "no runner here has this map" + near}
			r.Effective, _ = api.ParseState(v.Value)
			r.setBy(&m)
			runners = append(runners, r)
		}
	}
	slices.SortStableFunc(runners, func(a, b Runner) int { return strings.Compare(a.Name, b.Name) })
	return runners
}

func newRunner(p *Pod, all map[string]*statemap.ConfigMap) Runner {
	c := p.container()
	r := Runner{
		Name: p.nodeMap(), Pod: p.Metadata.Name, Node: p.Spec.NodeName, Phase: api.PhaseUnknown, Problem: p.trouble(), Report: p.report(),
		Ended: p.Status.Phase == "Succeeded", alive: c.State.Waiting == nil && c.State.Terminated == nil && !p.ended(),
	}
	known := api.Maps{Global: &api.MapStatus{}, Node: &api.MapStatus{Name: r.Name}}
	if r.Report != nil && r.Report.Maps.Global != nil {
		known, r.Phase = r.Report.Maps, r.Report.Phase
	} else if r.Problem == "" {
		r.Problem = "says nothing of itself; may it write to its pod? See runner/deploy/conditions"
	}
	// What a map meant before it said nothing valid (R3) is what the runner reports.
	snapshot, memory := lifecycle.Snapshot{Global: view(api.GlobalMapName, all)}, lifecycle.Memory{Global: known.Global.Value}
	r.Seen = saw(snapshot.Global, known.Global)
	if known.Node != nil {
		r.Name, memory.Node = known.Node.Name, known.Node.Value
		snapshot.Node = view(r.Name, all)
		r.Seen = r.Seen && saw(snapshot.Node, known.Node)
	}
	r.fades = memory.Global != api.Unset && !snapshot.Global.Present || memory.Node != api.Unset && !snapshot.Node.Present
	_, resolved := lifecycle.Resolve(memory, snapshot, time.Time{}, 0)
	r.Effective, r.Source, r.Shadowed = resolved.Effective, resolved.Source, resolved.Shadowed
	r.setBy(all[map[api.Source]string{api.SourceGlobal: api.GlobalMapName, api.SourceNode: r.Name}[r.Source]])
	for _, problem := range []*lifecycle.Problem{resolved.GlobalProblem, resolved.NodeProblem} {
		if problem != nil {
			r.Problem = strings.TrimPrefix(r.Problem+"; "+problem.Text, "; ")
		}
	}
	if s := r.Report; s != nil && (s.Source == api.SourceSignal || s.Source == api.SourceLimit) {
		r.Source, r.Shadowed = s.Source, s.Shadowed
	}
	if r.Source == api.SourceLimit {
		r.Effective = api.DrainAndTerminate
	}
	if p.ended() { // and there is nothing more for it to see
		r.Phase, r.Seen = api.PhaseTerminated, true
	}
	return r
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
	if !v.Present {
		return s.ResourceVersion != "" && !s.Present
	}
	order, err := resourceversion.CompareResourceVersion(s.ResourceVersion, v.ResourceVersion)
	return err == nil && order >= 0
}

// setBy notes who has set the STATE of a map last, and why.
func (r *Runner) setBy(m *statemap.ConfigMap) {
	if m == nil {
		return
	}
	r.Reason, _ = api.ParseReason(m.View().Why)
	var entries []metav1.ManagedFieldsEntry
	_ = json.Unmarshal(m.Metadata.ManagedFields, &entries) // none if nobody has kept them
	for _, entry := range entries {
		var fields struct {
			Data map[string]json.RawMessage `json:"f:data"`
		}
		if entry.FieldsV1 == nil || json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) != nil || fields.Data["f:"+api.StateKey] == nil {
			continue
		}
		if at := cmp.Or(entry.Time, &metav1.Time{}).Time; r.SetBy == "" || at.After(r.SetAt) {
			r.SetBy, r.SetAt = entry.Manager, at
		}
	}
}

// Owner is a map of that name as far as it is known who has set it, when, and why,
// whether or not what it says is in force.
func Owner(name string, all []statemap.ConfigMap) Runner {
	r := Runner{Name: name}
	if i := slices.IndexFunc(all, func(m statemap.ConfigMap) bool { return m.Metadata.Name == name }); i >= 0 {
		r.setBy(&all[i])
	}
	return r
}

// Asked is the state that asks for what is to be so.
var Asked = map[api.Phase]api.State{
	api.PhaseRunning: api.Running, api.PhaseSuspended: api.DrainAndSuspend, api.PhaseTerminated: api.DrainAndTerminate,
}

// Missing says what keeps the runner from a phase, as the newest version of both maps
// asks for it; nothing once it is so. Never means that it cannot come true.
func (r *Runner) Missing(phase api.Phase) (missing string, never bool) {
	asked, terminated := Asked[phase], phase == api.PhaseTerminated
	switch {
	case r.Ended:
		return map[bool]string{false: r.Problem}[terminated], !terminated
	case r.Effective != asked:
		words := []string{"is asked for " + string(r.Effective) + ", source " + string(r.Source), "set by " + r.SetBy, r.Reason, r.Problem}
		if r.fades {
			words = append(words, "a map that it obeyed was deleted, which it has not confirmed yet")
		}
		return strings.Join(slices.DeleteFunc(words, func(s string) bool { return s == "" || s == "set by " }), "; "), !r.fades
	case r.Seen && r.Phase == phase && (terminated || r.alive && r.Report.Effective == asked):
		return "", false
	case r.Report == nil || !r.alive:
		return cmp.Or(r.Problem, "does not run"), false
	}
	missing = "has not seen the newest version of both maps"
	if r.Seen {
		missing = strings.TrimSuffix("is "+string(r.Phase)+": "+r.Report.Reason, ": ")
	}
	return strings.TrimSuffix(missing+"; "+r.Problem, "; "), false
}
