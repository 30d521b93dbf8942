package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2/types"
)

// evidenceDir is where, below its artifacts, a run keeps what failed scenarios leave.
const evidenceDir = "scenarios"

// StoryEntry is the name of the entry of a spec's report that is its story.
const StoryEntry = "story"

// MeasuredEntry is that of figures, by name and unit, which make bench shows.
const MeasuredEntry = "measured"

// Run is one run of the harness, as the page shows it.
type Run struct {
	Target  string
	Start   time.Time
	Length  time.Duration
	Version string // of the runners, as they say themselves
	// Around is what else the run stood on, as the version of Kubernetes.
	Around []string
	// Trouble is why the run as a whole went wrong, if not by its specs.
	Trouble []string
	Specs   []Spec // those that were asked for, in the order of the files
}

// Spec is one scenario, or a spec that is none.
type Spec struct {
	Anchor   string
	Name     string
	Area     string
	Labels   []string
	Location string
	Outcome  Outcome
	Length   time.Duration
	// Failure is what the spec said last; its first line is what matters.
	Failure  string
	Evidence []File
	Story    *Story
}

// Outcome is how a spec ended.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
)

// File is one of those that a failed scenario has left.
type File struct {
	Path string // from the page
	Name string
}

var unfit = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// FileName is a name for a scenario that every file system takes. What is left out of a
// long one tells it from others.
func FileName(area, text string) string {
	const most = 150
	name := strings.Trim(unfit.ReplaceAllString(area+"-"+text, "-"), "-")
	if len(name) <= most {
		return name
	}
	return fmt.Sprintf("%s-%08x", name[:most], crc32.ChecksumIEEE([]byte(name)))
}

// Evidence is the directory of what a scenario leaves when it fails.
func Evidence(artifacts, area, text string) string {
	return filepath.Join(artifacts, evidenceDir, FileName(area, text))
}

// FromGinkgo puts a run together from Ginkgo's report and the artifacts.
func FromGinkgo(g types.Report, artifacts string) (*Run, error) {
	run := &Run{
		Target: labelled(g.SuiteLabels, "target:"), Start: g.StartTime, Length: g.RunTime, Trouble: g.SpecialSuiteFailureReasons,
	}
	for _, report := range g.SpecReports {
		s, ok := specOf(report)
		if !ok {
			continue
		}
		var err error
		if s.Story, err = storyOf(report); err != nil {
			return nil, err
		}
		if s.Story != nil {
			run.Version = cmp.Or(run.Version, s.Story.Version)
			if run.Around == nil {
				run.Around = s.Story.Around
			}
		}
		if s.Outcome == Failed {
			s.Evidence = Files(artifacts, s.Area, s.Name, g.StartTime)
		}
		run.Specs = append(run.Specs, s)
	}
	run.Arrange()
	return run, nil
}

// storyOf is nil for a spec that is no scenario, or was not begun.
func storyOf(r types.SpecReport) (story *Story, err error) {
	for _, e := range r.ReportEntries {
		if e.Name != StoryEntry {
			continue
		}
		if told, ok := e.GetRawValue().(*Story); ok {
			return told, nil
		}
		if err := json.Unmarshal([]byte(e.Value.AsJSON), &story); err != nil { // of another process
			return nil, fmt.Errorf("read story of %s: %w", r.LeafNodeText, err)
		}
	}
	return story, nil
}

// Arrange puts the specs in order, and names each for links to it.
func (r *Run) Arrange() {
	slices.SortStableFunc(r.Specs, func(a, b Spec) int {
		return cmp.Or(cmp.Compare(a.Area, b.Area), cmp.Compare(a.Location, b.Location), cmp.Compare(a.Name, b.Name))
	})
	for i := range r.Specs {
		r.Specs[i].Anchor = "s" + strconv.Itoa(i+1)
	}
}

// byUser is what Ginkgo says of Ctrl-C, which is no fault of the spec that it meets.
const byUser = "Interrupted by User"

// specOf leaves out what nobody asked for, and set-up that went well.
func specOf(r types.SpecReport) (Spec, bool) {
	s := Spec{Name: r.LeafNodeText, Labels: r.Labels(), Length: r.RunTime, Outcome: Passed}
	switch {
	case r.State.Is(types.SpecStateInterrupted) && strings.HasPrefix(r.Failure.Message, byUser):
		s.Outcome, s.Failure = Skipped, "it was interrupted"
	case r.Failed():
		s.Outcome, s.Failure = Failed, r.Failure.Message
	case r.State.Is(types.SpecStateSkipped | types.SpecStatePending):
		s.Outcome, s.Failure = Skipped, r.Failure.Message
		if s.Failure == "" {
			return s, false
		}
	}
	if !r.LeafNodeType.Is(types.NodeTypeIt) {
		s.Name = cmp.Or(s.Name, r.LeafNodeType.String())
		return s, s.Outcome == Failed
	}
	s.Area = labelled(s.Labels, "area:")
	file := filepath.ToSlash(r.LeafNodeLocation.FileName)
	s.Location = fmt.Sprintf("%s:%d", strings.TrimPrefix(path.Join(path.Base(path.Dir(file)), path.Base(file)), "./"), r.LeafNodeLocation.LineNumber)
	return s, true
}

// labelled is what a label says behind a prefix, or empty.
func labelled(labels []string, prefix string) string {
	for _, label := range labels {
		if text, ok := strings.CutPrefix(label, prefix); ok {
			return text
		}
	}
	return ""
}

// Files are what a scenario has left in its directory since a time: what is older
// is another run's. What people read first comes first.
func Files(artifacts, area, text string, since time.Time) (files []File) {
	dir := Evidence(artifacts, area, text)
	entries, _ := os.ReadDir(dir) // there may be nothing
	for _, e := range entries {
		if info, err := e.Info(); err == nil && !e.IsDir() && !info.ModTime().Before(since) && info.Size() > 0 {
			files = append(files, File{path.Join(evidenceDir, filepath.Base(dir), e.Name()), e.Name()})
		}
	}
	slices.SortStableFunc(files, func(a, b File) int { return cmp.Compare(weight(a.Name), weight(b.Name)) })
	return files
}

func weight(name string) int {
	switch {
	case name == "timeline.txt":
		return 0
	case strings.HasSuffix(name, ".log"):
		return 1
	}
	return 2
}

// With returns the specs with an outcome.
func (r *Run) With(outcome Outcome) []Spec {
	return slices.DeleteFunc(slices.Clone(r.Specs), func(s Spec) bool { return s.Outcome != outcome })
}

// Count counts them.
func (r *Run) Count(outcome Outcome) int { return len(r.With(outcome)) }

// Slowest returns the n specs that took longest.
func (r *Run) Slowest(n int) []Spec {
	all := slices.DeleteFunc(slices.Clone(r.Specs), func(s Spec) bool { return s.Outcome == Skipped })
	slices.SortStableFunc(all, func(a, b Spec) int { return cmp.Compare(b.Length, a.Length) })
	return all[:min(len(all), n)]
}

// Deviation is the first thing that was not as it should be, in a line.
func (s Spec) Deviation() string {
	text := s.Failure
	if s.Story != nil && s.Story.Wrong != nil {
		text = s.Story.Wrong.Why
	}
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return first
}

// Moment says when that was, and what was being done.
func (s Spec) Moment() string {
	if s.Story == nil || s.Story.Wrong == nil {
		return "after " + s.Length.Round(time.Millisecond).String()
	}
	w := s.Story.Wrong
	text := fmt.Sprintf("%.3f s into it", float64(w.At)/1000)
	if w.Line > 0 {
		text += fmt.Sprintf(", line %d", w.Line)
	}
	return text + ": " + w.Step
}
