package statemap

import (
	"encoding/json"
	"testing"

	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// A key that was probably meant to be STATE is named as long as STATE is missing,
// and no other.
func TestTheKeyInsteadOfState(t *testing.T) {
	var v lifecycle.View
	for _, step := range []struct {
		m    ConfigMap
		want string
	}{
		{ConfigMap{BinaryData: map[string]json.RawMessage{"State": nil, "other": nil}}, "State"},
		{ConfigMap{BinaryData: map[string]json.RawMessage{"other": nil}}, ""},
		{ConfigMap{Data: map[string]string{"other": "x", "state.txt": "Running"}}, "state.txt"},
		{ConfigMap{Data: map[string]string{"STATE": "Running", "state": "x"}}, ""},
	} {
		if fill(&v, &step.m); v.Instead != step.want {
			t.Errorf("%+v: %q instead of STATE, want %q", step.m, v.Instead, step.want)
		}
	}
}
