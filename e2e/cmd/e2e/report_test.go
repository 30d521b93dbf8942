package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2/types"
	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/e2e/report"
)

// The page of a run is made anew from what it has left. What Ctrl-C met has not failed.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	text, err := json.Marshal([]types.Report{{SuiteLabels: []string{"target:embedded"}, StartTime: time.Now(), SpecReports: types.SpecReports{{
		LeafNodeType: types.NodeTypeIt, LeafNodeText: "two flips", State: types.SpecStateFailed, Failure: types.Failure{Message: "it is open"},
		ReportEntries: types.ReportEntries{{Name: report.StoryEntry, Value: types.WrapEntryValue(&report.Story{Version: "v1.2.3"})}},
	}, {
		LeafNodeType: types.NodeTypeIt, LeafNodeText: "stopped", State: types.SpecStateInterrupted, Failure: types.Failure{Message: "Interrupted by User"},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run([]string{"report", dir}, &out, &errs); code != 0 {
		t.Fatalf("exit code %d, %s", code, &errs)
	}
	for _, file := range []string{"report.html", "report.md"} {
		if page, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !strings.Contains(string(page), "two flips") || !strings.Contains(string(page), "1 of 1 failed") || !strings.Contains(string(page), "v1.2.3") {
			t.Errorf("%s: %v, %.300s", file, err, page)
		}
	}
}

// What is no report of a run makes no page.
func TestReportOfNothing(t *testing.T) {
	for _, text := range []string{"", "[]", "[null]", "[{}, {}]", "{}", "[1]"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "report.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		if code := run([]string{"report", dir}, &out, &errs); code != 1 || out.Len() > 0 || !strings.Contains(errs.String(), dir) {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", text, code, &out, &errs)
		}
		if _, err := os.Stat(filepath.Join(dir, report.PageFile)); err == nil {
			t.Errorf("%q: there is a page", text)
		}
	}
}

// A terminal has a width, which people change, and what cannot be drawn on has none.
func TestWidth(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("there are no terminals here: %v", err)
	}
	defer master.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	t.Setenv("TERM", "xterm")
	columns := width(master)
	for _, want := range []int{60, 120} {
		if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: uint16(want)}); err != nil {
			t.Fatal(err)
		}
		if columns == nil || columns() != want {
			t.Errorf("a terminal of %d columns has another width", want)
		}
	}
	if width(file) != nil || width(&bytes.Buffer{}) != nil {
		t.Error("what is no terminal has a width")
	}
	t.Setenv("TERM", "dumb")
	if width(master) != nil {
		t.Error("a dumb terminal has a width")
	}
}
