package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/onsi/ginkgo/v2/types"
)

// BenchmarkHarness plays scenarios as people do, on the embedded target.
func BenchmarkHarness(b *testing.B) {
	labels := "area: containsAny {start, values}"
	if testing.Short() {
		labels = "area: containsAny {start}"
	}
	artifacts := b.TempDir()
	run(b, []string{"MAKEFLAGS=", "MAKELEVEL="}, "", "make", "-s", "-C", "../..", "e2e", "TARGET=embedded", "LABELS="+labels, "ARTIFACTS="+artifacts)
	text, err := os.ReadFile(filepath.Join(artifacts, "embedded", "report.json"))
	check(b, err)
	var reports []types.Report
	check(b, json.Unmarshal(text, &reports))
	played := reports[0].SpecReports.WithLeafNodeType(types.NodeTypeIt).WithState(types.SpecStatePassed)
	first := slices.MinFunc(played, func(a, b types.SpecReport) int { return a.StartTime.Compare(b.StartTime) })
	b.ReportMetric(first.StartTime.Sub(reports[0].StartTime).Seconds(), "first-s")
	b.ReportMetric(float64(len(played))/reports[0].RunTime.Seconds(), "specs/s")
}
