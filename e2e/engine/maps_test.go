package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/runner/api"
)

// versions is what the record says of a map: its values, "-" for a deletion.
func versions(record *history.History, name string) []string {
	var all []string
	for _, e := range record.Entries() {
		switch {
		case e.Map == nil || e.Map.Name != name:
		case e.Map.Deleted:
			all = append(all, "-")
		default:
			all = append(all, e.Map.Data[api.StateKey])
		}
	}
	return all
}

func TestMapSteps(t *testing.T) {
	global := "here/" + api.GlobalMapName
	tests := []struct {
		name, steps string
		want        []string // versions of the global map
		err         string
	}{
		{name: "apply creates and changes", steps: "[{apply: {global: Running}}, {apply: {global: DrainAndSuspend}}]",
			want: []string{"Running", "DrainAndSuspend"}},
		{name: "apply deletes", steps: "[{apply: {global: Running}}, {apply: {global: absent}}, {apply: {global: absent}}]",
			want: []string{"Running", "-"}},
		{name: "replaced", steps: "[{apply: {global: {immutable: true, data: {STATE: Running}}}}, {delete: [global]}, {apply: {global: DrainAndSuspend}}]",
			want: []string{"Running", "-", "DrainAndSuspend"}},
		{name: "immutable", steps: "[{apply: {global: {immutable: true, data: {STATE: Running}}}}, {apply: {global: DrainAndSuspend}}]",
			want: []string{"Running"}, err: "field is immutable"},
		{name: "delete", steps: "[{apply: {global: Running}}, {delete: [global]}]", want: []string{"Running", "-"}},
		{name: "without STATE", steps: "[{apply: {global: Running}}, {apply: {global: {}}}]", want: []string{"Running", ""}},
		{name: "nothing but a label", steps: "[{apply: {global: Running}}, {apply: {global: {data: {STATE: Running}, labels: {a: b}}}}]",
			want: []string{"Running", "Running"}},
		{name: "again and again", steps: `[{repeat: {times: 2, maps: [{global: DrainAndSuspend}, {global: "x\x01"}]}}]`,
			want: []string{"DrainAndSuspend", "x\x01", "DrainAndSuspend", "x\x01"}},
		{name: "manifest", steps: `[{manifest: {text: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: studioml-go-runner}\ndata: {STATE: Running}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: studioml-go-runner}\ndata: {STATE: DrainAndSuspend}\n"}}]`,
			want: []string{"Running", "DrainAndSuspend"}},
		{name: "manifest refused", steps: `[{manifest: {text: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {STATE: off}", refused: cannot unmarshal bool}}]`},
		{name: "manifest refused for another reason", err: "the refusal does not say \"other\"",
			steps: `[{manifest: {text: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {STATE: off}", refused: other}}]`},
		{name: "manifest not refused", want: []string{"Running"}, err: "accepted it, want a refusal",
			steps: `[{manifest: {text: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: studioml-go-runner}\ndata: {STATE: Running}", refused: x}}]`},
		{name: "manifest is no object", err: "read manifest", steps: `[{manifest: {text: "- x"}}]`},
		{name: "manifest is empty", err: "Kind", steps: `[{manifest: {text: "# nothing"}}]`},
		{name: "outage", steps: "[{apiserver: stop}, {apply: {global: Running}}]", err: "currently unable to handle the request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := newFakeEnv(t, idle)
			record, err := run(t, faultyEnv{env}, "steps: "+strings.TrimSuffix(tt.steps, "]")+", {expect: {a: {processes: 1}}}]\n")
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got error %v, want %q", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, versions(record, api.GlobalMapName)); diff != "" {
				t.Errorf("versions, want - got +\n%s", diff)
			}
			if m := env.api.have(global); m != nil && m.Data[api.StateKey] != tt.want[len(tt.want)-1] {
				t.Errorf("the map is %v", m)
			}
		})
	}
}

// A crowd is there when its step ends, goes on changing, and is not in the record.
func TestCrowd(t *testing.T) {
	env := newFakeEnv(t, idle)
	record, err := run(t, env, `name: crowd
rows: [44]
targets: [embedded]
maps: {global: Running}
runners: {a: {}}
steps:
  - crowd: {maps: 20, every: 1ms}
  - expect: {a: {processes: 1}}
  - wait: {for: 2s, because: "the crowd changes"}
`)
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for n := range 20 {
		m := env.api.have(fmt.Sprintf("here/crowd-%d", n))
		if m == nil {
			t.Fatalf("there is no crowd-%d", n)
		}
		if m.Data[api.StateKey] != "new" {
			changed++
		}
		if got := versions(record, m.Name); got != nil {
			t.Errorf("the record has a map of the crowd: %v", got)
		}
	}
	if changed == 0 {
		t.Error("none has changed")
	}
	if got := versions(record, api.GlobalMapName); len(got) != 1 {
		t.Errorf("the record of the global map is %v", got)
	}
}

func TestMapFields(t *testing.T) {
	env := newFakeEnv(t, idle)
	record, err := run(t, env, `name: fields
rows: [1]
targets: [embedded]
maps:
  global: {data: {STATE: Running, other: x}, binaryData: {blob: aGVsbG8=}, labels: {team: a}}
  a: {elsewhere: true, data: {STATE: DrainAndSuspend}}
runners: {a: {hostname: host}}
steps:
  - expect: {a: {processes: 1}}
`)
	if err != nil {
		t.Fatal(err)
	}
	m := env.api.have("here/" + api.GlobalMapName)
	if string(m.BinaryData["blob"]) != "hello" || m.Data["other"] != "x" || m.Labels["team"] != "a" {
		t.Errorf("the global map is %v", m)
	}
	if m := env.api.have("elsewhere/host"); m == nil || m.Data[api.StateKey] != "DrainAndSuspend" {
		t.Errorf("the map elsewhere is %v", m)
	}
	if got := versions(record, "host"); got != nil {
		t.Errorf("the record has the map elsewhere: %v", got)
	}
}

// The watch outlives an outage. A map that went in it is known to be gone, and
// only a version above its last one shows that a runner knows it, too.
func TestOutage(t *testing.T) {
	env := newFakeEnv(t, idle)
	gone := func() { env.api.remove("here/" + api.GlobalMapName) }
	record, err := run(t, removing{faultyEnv{env}, gone}, `name: outage
rows: [1]
targets: [embedded]
needs: [apiserver]
maps: {global: Running, a: Running}
runners: {a: {}}
steps:
  - apiserver: stop
  - apiserver: start
  - apply: {a: DrainAndSuspend}
  - expect: {a: {processes: 1}}
`)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Running", "-"}, versions(record, api.GlobalMapName)); diff != "" {
		t.Errorf("versions of the global map, want - got +\n%s", diff)
	}
	if diff := cmp.Diff([]string{"Running", "DrainAndSuspend"}, versions(record, "a")); diff != "" {
		t.Errorf("versions of the node map, want - got +\n%s", diff)
	}
	record.View(func(s *history.Summary) {
		if m := s.Maps["here/"+api.GlobalMapName]; !m.Deleted || m.ResourceVersion != "102" {
			t.Errorf("the global map is %+v, want its last version, 102, and deleted", m)
		}
	})
}

// removing removes a map while its API server is down.
type removing struct {
	faultyEnv
	remove func()
}

func (r removing) StopAPIServer(ctx context.Context) error {
	defer r.remove()
	return r.faultyEnv.StopAPIServer(ctx)
}
