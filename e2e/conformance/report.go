package conformance

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/studioml/studio-go-runner/e2e/catalogue"
)

// Report says what a runner has shown. It has no date and no durations: the same
// results make the same file.
type Report struct {
	APIVersion     string         `json:"apiVersion"`
	Kind           string         `json:"kind"`
	Implementation Implementation `json:"implementation"`
	// Target is embedded, kind or existing, and Kubernetes its version.
	Target     string `json:"target"`
	Kubernetes string `json:"kubernetes,omitempty"`
	// Mode is how runners were started: as a process, or as a pod.
	Mode   string        `json:"mode"`
	Levels []LevelReport `json:"levels"`
}

// The head of every report.
const (
	apiVersion = "conformance.studioml.io/v1"
	reportKind = "ConformanceReport"
)

// Implementation says whose runner it is, as its adapter describes it.
type Implementation struct {
	Organization string `json:"organization"`
	Project      string `json:"project"`
	URL          string `json:"url"`
	Version      string `json:"version"`
}

// LevelReport is what came of a level.
type LevelReport struct {
	Name       Level      `json:"name"`
	Result     Verdict    `json:"result"`
	Statistics Statistics `json:"statistics"`
	// Rows of the catalogue that all their scenarios have shown.
	Rows    []catalogue.Row `json:"rows"`
	Failed  []Failure       `json:"failed,omitempty"`
	Skipped []Failure       `json:"skipped,omitempty"`
}

// Verdict is the result of a level.
type Verdict string

// The verdicts. Partial is one of which something was skipped.
const (
	Success Verdict = "success"
	Partial Verdict = "partial"
	Fails   Verdict = "failure"
)

// Statistics counts scenarios.
type Statistics struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
}

// Failure is a scenario that failed or was skipped, and the reason of that.
type Failure struct {
	Scenario string          `json:"scenario"`
	Rows     []catalogue.Row `json:"rows"`
	Reason   string          `json:"reason,omitempty"`
}

// NewReport puts a report together.
func NewReport(who Implementation, target, kubernetes string, results []Result) *Report {
	r := &Report{APIVersion: apiVersion, Kind: reportKind, Implementation: who, Target: target, Kubernetes: kubernetes, Mode: "pod"}
	if target == "embedded" {
		r.Mode = "process"
	}
	for _, level := range Levels {
		of := slices.DeleteFunc(slices.Clone(results), func(one Result) bool { return one.Level != level })
		if len(of) > 0 {
			r.Levels = append(r.Levels, reportOf(level, of))
		}
	}
	return r
}

func reportOf(level Level, results []Result) LevelReport {
	l := LevelReport{Name: level, Result: Success, Rows: []catalogue.Row{}}
	shown := make(map[catalogue.Row]bool)
	for _, one := range results {
		ok := one.Err == nil && one.Skipped == ""
		for _, row := range one.Scenario.Rows {
			before, known := shown[row]
			shown[row] = ok && (before || !known)
		}
		switch f := (Failure{Scenario: one.Scenario.Name, Rows: one.Scenario.Rows, Reason: one.Skipped}); {
		case one.Skipped != "":
			l.Statistics.Skipped++
			l.Skipped = append(l.Skipped, f)
		case one.Err != nil:
			l.Statistics.Failed++
			l.Failed = append(l.Failed, f) // why, is evidence: it has times and versions
		default:
			l.Statistics.Passed++
		}
	}
	switch {
	case l.Statistics.Failed > 0:
		l.Result = Fails
	case l.Statistics.Skipped > 0:
		l.Result = Partial
	}
	for _, row := range slices.Sorted(maps.Keys(shown)) {
		if shown[row] {
			l.Rows = append(l.Rows, row)
		}
	}
	return l
}

// Write writes the report into a file.
func (r *Report) Write(path string) error {
	text, err := yaml.Marshal(r)
	if err == nil {
		err = os.WriteFile(path, text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write conformance report: %w", err)
	}
	return nil
}

// ReadReports reads all reports of a directory.
func ReadReports(dir string) ([]Report, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("find conformance reports: %w", err)
	}
	var all []Report
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read conformance report: %w", err)
		}
		var r Report
		if err := yaml.UnmarshalStrict(text, &r); err != nil {
			return nil, fmt.Errorf("read conformance report %s: %w", filepath.Base(file), err)
		}
		if r.APIVersion != apiVersion || r.Kind != reportKind {
			return nil, fmt.Errorf("conformance report %s is %s, %s; must be %s, %s", filepath.Base(file), r.APIVersion, r.Kind, apiVersion, reportKind)
		}
		all = append(all, r)
	}
	slices.SortStableFunc(all, func(a, b Report) int {
		return cmp.Or(cmp.Compare(a.Implementation.Project, b.Implementation.Project), cmp.Compare(a.Target, b.Target))
	})
	return all, nil
}

// Matrix writes what all reports say as Markdown, a line for each row.
func (s *Suite) Matrix(reports []Report) string {
	var b strings.Builder
	b.WriteString("# Who conforms\n\nMade from [reports](reports) by `make generate`. ✓ was shown, ✗ failed, – was skipped or not played.\n")
	head, rule := "\n| row | what |", "\n|---:|---|"
	for _, r := range reports {
		head += fmt.Sprintf(" [%s](%s) %s<br>%s, %s |", r.Implementation.Project, r.Implementation.URL, r.Implementation.Version, r.Target, r.Mode)
		rule += ":-:|"
	}
	for i, level := range Levels {
		fmt.Fprintf(&b, "\n## %s\n", strings.ToUpper(string(level[:1]))+string(level[1:]))
		b.WriteString(head + rule + "\n| | **all of it** |")
		for _, r := range reports {
			verdict := "not played"
			if i < len(r.Levels) {
				verdict = string(r.Levels[i].Result)
			}
			fmt.Fprintf(&b, " %s |", verdict)
		}
		b.WriteString("\n")
		for _, row := range s.Rows(level) {
			fmt.Fprintf(&b, "| %d | %s |", row, row.Title())
			for _, r := range reports {
				fmt.Fprintf(&b, " %s |", r.mark(level, row))
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("\n## In no level\n\n| row | what | why |\n|---:|---|---|\n")
	for _, entry := range catalogue.Rows {
		if why, left := s.Left[entry.Number]; left {
			fmt.Fprintf(&b, "| %d | %s | %s |\n", entry.Number, entry.Title, why)
		}
	}
	return b.String()
}

// mark says what became of a row.
func (r *Report) mark(level Level, row catalogue.Row) string {
	for _, l := range r.Levels {
		if l.Name != level {
			continue
		}
		if slices.Contains(l.Rows, row) {
			return "✓"
		}
		if slices.ContainsFunc(l.Failed, func(f Failure) bool { return slices.Contains(f.Rows, row) }) {
			return "✗"
		}
	}
	return "–"
}
