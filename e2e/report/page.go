package report

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
)

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"short": short, "look": lookOf, "value": breakable, "phase": phaseName, "cell": cellText, "matrixSum": matrixSum,
	"mark": func(o Outcome) string { return map[Outcome]string{Passed: "✓", Failed: "✗", Skipped: "–"}[o] },
}).Parse(pageHTML))

// The files of a run that people open.
const (
	PageFile    = "report.html"
	SummaryFile = "report.md"
)

// Write writes the page and the summary into the artifacts.
func (r *Run) Write(artifacts string) error {
	return errors.Join(
		write(filepath.Join(artifacts, PageFile), r.HTML),
		write(filepath.Join(artifacts, SummaryFile), r.Markdown))
}

func write(path string, with func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := errors.Join(with(file), file.Close()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// area is the specs of a folder of scenarios.
type area struct {
	Name  string
	Specs []Spec
}

// slow is a spec with its share of the slowest one's time, in percent.
type slow struct {
	Spec
	Share int
}

// HTML writes the page.
func (r *Run) HTML(w io.Writer) error {
	stories := make(map[string]*Story)
	var areas []area
	for _, s := range r.Specs {
		if s.Story != nil {
			stories[s.Anchor] = s.Story
		}
		name := cmp.Or(s.Area, "others")
		if len(areas) == 0 || areas[len(areas)-1].Name != name {
			areas = append(areas, area{Name: name})
		}
		last := &areas[len(areas)-1]
		last.Specs = append(last.Specs, s)
	}
	var slowest []slow
	for _, s := range r.Slowest(8) {
		share := 100
		if len(slowest) > 0 {
			share = int(100 * s.Length / max(1, slowest[0].Length))
		}
		slowest = append(slowest, slow{s, share})
	}
	return page.Execute(w, struct {
		*Run
		Verdict string
		Failed  []Spec
		Skipped []Spec
		Areas   []area
		Slow    []slow
		Stories map[string]*Story
		CSS     template.CSS
		JS      template.JS
	}{r, r.Verdict(), r.With(Failed), r.With(Skipped), areas, slowest, stories, template.CSS(pageCSS), template.JS(pageJS)})
}

// Verdict says in a few words how the run ended.
func (r *Run) Verdict() string {
	played := r.Count(Passed) + r.Count(Failed)
	switch failed := r.Count(Failed); {
	case failed > 0:
		return fmt.Sprintf("%d of %d failed", failed, played)
	case len(r.Trouble) > 0:
		return fmt.Sprintf("%d passed, and the run went wrong", played)
	case played == 0:
		return "nothing was played"
	default:
		return fmt.Sprintf("all %d passed", played)
	}
}

// short writes a duration for people.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d < 10*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < 100*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	default:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	}
}

func valueName(value string) string { return cmp.Or(value, "empty") }

// breakable is a value that a narrow column breaks where a word ends.
func breakable(value string) template.HTML {
	return template.HTML(strings.ReplaceAll(template.HTMLEscapeString(valueName(value)), "And", "<wbr>And"))
}

// phaseName is the whole word, and its beginning for phones.
func phaseName(phase string) template.HTML {
	long := template.HTMLEscapeString(phase)
	brief := long[:min(len(long), 4)]
	if brief == "Runn" {
		brief = "Run"
	}
	return template.HTML(`<span class="long">` + long + `</span><span class="brief">` + brief + `</span>`)
}

func cellText(c Cell) string {
	text := fmt.Sprintf("global %s, node %s: want %s, effective %s, source %s, shadowed %s", valueName(c.Global), valueName(c.Node),
		c.Want.Phase, c.Want.Effective, c.Want.Source, c.Want.Shadowed)
	if c.Got == nil {
		return text + "; not played"
	}
	return text + fmt.Sprintf("; got %s, effective %s, source %s, shadowed %s", c.Got.Phase, c.Got.Effective, c.Got.Source, c.Got.Shadowed)
}

func matrixSum(lines [][]Cell) string {
	right, played, all := 0, 0, 0
	for _, c := range slices.Concat(lines...) {
		all++
		if c.Got != nil {
			played++
		}
		if c.Right {
			right++
		}
	}
	return fmt.Sprintf("%d of %d pairs were played, %d as expected", played, all, right)
}
