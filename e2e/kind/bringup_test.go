package kind

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestBringUpEndsWithTheFirstFailure(t *testing.T) {
	failure := errors.New("no")
	var out strings.Builder
	err := BringUp(t.Context(), &out,
		Action{"walk", func(context.Context) error { return nil }},
		Action{"run", func(context.Context) error { return failure }},
		Action{"fly", func(context.Context) error { t.Error("it went on"); return nil }},
	)
	if !errors.Is(err, failure) || err.Error() != "run: no" {
		t.Errorf("error is %v", err)
	}
	if want := regexp.MustCompile(`^done in +0s: walk\nfailed after +0s: run\n$`); !want.MatchString(out.String()) {
		t.Errorf("progress is %q", out.String())
	}
}
