package conformance_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/catalogue"
	"github.com/studioml/studio-go-runner/e2e/conformance"
	"github.com/studioml/studio-go-runner/e2e/scenario"
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

// MATRIX.md says what the reports say.
func TestTheMatrixIsUpToDate(t *testing.T) {
	s, err := conformance.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	reports, err := conformance.ReadReports("reports")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("MATRIX.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := s.Matrix(reports); string(text) != want {
		t.Error("MATRIX.md is not up to date, run make generate")
	}
}

// A report is a function of the results, and has no times.
func TestReport(t *testing.T) {
	one := func(name string, level conformance.Level, skipped string, err error, rows ...catalogue.Row) conformance.Result {
		return conformance.Result{Scenario: scenario.Scenario{File: scenario.File{Name: name, Rows: rows}}, Level: level, Skipped: skipped, Err: err, Length: time.Duration(rand.Int64())}
	}
	r := conformance.NewReport(conformance.Implementation{Project: "p", Version: "v"}, "embedded", "v1", []conformance.Result{
		one("good", conformance.Core, "", nil, 1, 2), one("bad", conformance.Core, "", errors.New("after 3.2s"), 2), one("also good", conformance.Core, "", nil, 2, 3),
		one("good", conformance.Extended, "", nil, 4), one("left out", conformance.Extended, "needs gpus", nil, 4, 5),
	})
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := r.Write(file); err != nil {
		t.Fatal(err)
	}
	got, err := conformance.ReadReports(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	want := []conformance.LevelReport{{
		Name: conformance.Core, Result: conformance.Fails, Statistics: conformance.Statistics{Passed: 2, Failed: 1}, Rows: []catalogue.Row{1, 3},
		Failed: []conformance.Failure{{Scenario: "bad", Rows: []catalogue.Row{2}}},
	}, {
		Name: conformance.Extended, Result: conformance.Partial, Statistics: conformance.Statistics{Passed: 1, Skipped: 1}, Rows: []catalogue.Row{},
		Skipped: []conformance.Failure{{Scenario: "left out", Rows: []catalogue.Row{4, 5}, Reason: "needs gpus"}},
	}}
	if diff := gocmp.Diff(want, got[0].Levels); diff != "" {
		t.Errorf("want - got +\n%s", diff)
	}
}
