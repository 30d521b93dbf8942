package place_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

func TestLines(t *testing.T) {
	var got []string
	lines := &place.Lines{Each: func(line string) error {
		got = append(got, line)
		return nil
	}}
	long := strings.Repeat("x", 1<<20)
	for _, piece := range []string{"", "a", "b\n\nc", "\nd\ne", long, "\nno end"} {
		if n, err := lines.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Errorf("wrote %d bytes of %d, %v", n, len(piece), err)
		}
	}
	lines.Last()
	if want := []string{"ab", "", "c", "d", "e" + long, "", "no end"}; !slices.Equal(got, want) {
		t.Errorf("%d lines, want %d: %.80q", len(got), len(want), got)
	}
	bad := errors.New("no such line")
	lines = &place.Lines{Each: func(string) error { return bad }}
	if _, err := lines.Write([]byte("a\n")); err != bad {
		t.Errorf("error is %v", err)
	}
}
