package place_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

func TestParseNote(t *testing.T) {
	for _, test := range []struct {
		line string
		want targets.TaskNote
		err  string
	}{
		{line: "start\tt-1\t1\tr1\t", want: targets.TaskNote{Task: "t-1", Attempt: 1, Runner: "r1"}},
		{line: "end\tt-1\t3\tr1\tGPU-1", want: targets.TaskNote{Task: "t-1", Attempt: 3, Runner: "r1", End: true, GPUs: "GPU-1"}},
		{line: "17\tt-1\t3\tr1\tGPU-1", want: targets.TaskNote{Task: "t-1", Attempt: 3, Runner: "r1", Step: 17, GPUs: "GPU-1"}},
		{line: "0\tt-1\t3\tr1\t", err: "must be start, a step or end"},
		{line: "", err: `the line ""`},
		{line: "begin\tt\t1\tr\t", err: "must be start, a step or end"},
		{line: "start\t\t1\tr\t", err: "must be start, a step or end"},
		{line: "start\tt\t0\tr\t", err: "must be start, a step or end, task, attempt"},
		{line: "start\tt\tx\x1b\tr\t", err: `x\x1b`},
		{line: "start\tt\t1\tr\t\textra", err: "must be start, a step or end"},
	} {
		var got targets.TaskNote
		err := place.Note(test.line, func(n targets.TaskNote) { got = n })
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.line, diff)
		}
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%q: error is %v, want %q", test.line, err, test.err)
		}
	}
}

func FuzzParseNote(f *testing.F) {
	f.Add("start\tt-1\t1\tr1\t")
	f.Add("end\t\t\t\t")
	f.Fuzz(func(t *testing.T, line string) {
		_ = place.Note(line, func(note targets.TaskNote) {
			if note.Task == "" || note.Attempt < 1 {
				t.Errorf("%q became %+v", line, note)
			}
		})
	})
}
