package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/studioml/studio-go-runner/e2e/report"
)

// BenchmarkHarness plays scenarios as people do, on the embedded target.
func BenchmarkHarness(b *testing.B) {
	labels := "area: containsAny {start, values}"
	if testing.Short() {
		labels = "area: containsAny {start}"
	}
	artifacts := b.TempDir()
	run(b, []string{"MAKEFLAGS=", "MAKELEVEL="}, "", "make", "-s", "-C", "../..", "e2e", "TARGET=embedded", "LABELS="+labels, "ARTIFACTS="+artifacts)
	suite(b, reportIn(b, filepath.Join(artifacts, "embedded")))
}

// BenchmarkKind is told by the report of a run that was there before: to play all
// scenarios on kind takes longer than all that is measured here.
func BenchmarkKind(b *testing.B) {
	r := kindReport(b)
	suite(b, r)
	for unit, value := range measured(b, r) {
		b.ReportMetric(value, unit)
	}
}

// BenchmarkGate is told by the last run of the gate, for the same reason.
func BenchmarkGate(b *testing.B) {
	const file = "../../artifacts/gate-seconds"
	info, err := os.Stat(file)
	if err != nil || time.Since(info.ModTime()) > 24*time.Hour {
		b.Skip("no .ci/run has ended here within a day")
	}
	text, err := os.ReadFile(file)
	check(b, err)
	took, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
	check(b, err)
	b.ReportMetric(took, "whole-s")
}

// kindReport is that of the last run of the suite on kind.
func kindReport(b *testing.B) types.Report {
	b.Helper()
	const where = "../../artifacts/kind"
	if _, err := os.Stat(filepath.Join(where, "report.json")); err != nil {
		b.Skip("there is no report of make e2e TARGET=kind in artifacts")
	}
	r := reportIn(b, where)
	if c := r.SuiteConfig; len(c.FocusStrings) > 0 || c.LabelFilter != "" || !r.SuiteSucceeded || time.Since(r.EndTime) > 24*time.Hour {
		b.Skip("the last make e2e TARGET=kind was of some scenarios only, has failed, or was more than a day ago")
	}
	return r
}

// measured are the figures that the run has noted by itself.
func measured(b *testing.B, r types.Report) map[string]float64 {
	b.Helper()
	all := map[string]float64{}
	for _, spec := range r.SpecReports {
		for _, entry := range spec.ReportEntries {
			if entry.Name == report.MeasuredEntry {
				check(b, json.Unmarshal([]byte(entry.Value.AsJSON), &all)) // adds to what is there
			}
		}
	}
	return all
}

func reportIn(b *testing.B, dir string) types.Report {
	b.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "report.json"))
	check(b, err)
	var reports []types.Report
	check(b, json.Unmarshal(text, &reports))
	return reports[0]
}

func played(r types.Report) types.SpecReports {
	return r.SpecReports.WithLeafNodeType(types.NodeTypeIt).WithState(types.SpecStatePassed)
}

// suite tells how long one took, and when its first scenario began.
func suite(b *testing.B, r types.Report) {
	all := played(r)
	first := slices.MinFunc(all, func(a, b types.SpecReport) int { return a.StartTime.Compare(b.StartTime) })
	b.ReportMetric(first.StartTime.Sub(r.StartTime).Seconds(), "first-s")
	b.ReportMetric(r.RunTime.Seconds(), "whole-s")
	b.ReportMetric(float64(len(all))/r.RunTime.Seconds(), "specs/s")
}
