package statemap

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// FuzzConfigMap: whatever a map holds, one of the states is in force, a map that
// cannot be taken at its word says why in a few words, and STATE alone decides.
func FuzzConfigMap(f *testing.F) {
	for _, seed := range []string{
		`{"metadata":{"name":"studioml-go-runner","resourceVersion":"5"},"data":{"STATE":"DrainAndSuspend"}}`,
		`{"data":{"STATE":"Running\n"}}`, `{"data":{"STATE":"running"}}`, `{"data":{"STATE":""}}`, `{"data":{"state":"Running"}}`,
		`{"data":{"global_config.yaml":"data:\n  STATE: Running"}}`, `{"binaryData":{"STATE":"UnVubmluZw=="}}`, `{"binaryData":{"State":null}}`,
		`{"data":{"STATE":"\u001b[2J\u0000\ufeffRunning"}}`, `{"data":null,"binaryData":null}`, `{}`, `{"data":{"` + "\xff" + `":"STATE=x"}}`,
		`{"metadata":{"annotations":{"studioml.io/reason":"x"},"managedFields":[{}]},"data":{"STATE":"DrainAndTerminate","B":"b"}}`,
	} {
		f.Add([]byte(seed), uint8(0))
	}
	before := []api.State{api.Unset, api.Running, api.DrainAndTerminate, api.DrainAndSuspend}
	f.Fuzz(func(t *testing.T, document []byte, n uint8) {
		var m ConfigMap
		if json.Unmarshal(document, &m) != nil {
			return
		}
		v := lifecycle.View{Name: api.GlobalMapName}
		fill(&v, &m)
		memory := lifecycle.Memory{Global: before[int(n)%len(before)], Known: true}
		got, r := lifecycle.Resolve(memory, lifecycle.Snapshot{Global: v}, time.Unix(1e9, 0), time.Second)
		want, err := api.ParseState(m.Data[api.StateKey])
		if err != nil {
			want = memory.Global
		}
		if got.Global != want {
			t.Errorf("in force is %q, want %q", got.Global, want)
		}
		if (err != nil || v.Instead != "") && r.GlobalProblem == nil {
			t.Error("nobody is told")
		}
		if p := r.GlobalProblem; p != nil && len(p.Text) > 500 {
			t.Errorf("the problem has %d bytes", len(p.Text))
		}
	})
}
