package report

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	html "html/template"
	"io"
	"os"
	"path/filepath"
	"strings"
	text "text/template"
	"time"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS html.CSS
	//go:embed page.js
	pageJS html.JS
	//go:embed summary.tmpl
	summaryMD string
)

var (
	functions = map[string]any{
		"css": func() html.CSS { return pageCSS }, "js": func() html.JS { return pageJS },
		"short": short, "look": lookOf, "escape": escape,
		"value": func(value string) string { return cmp.Or(value, "empty") },
		// A narrow column may break a value where a word ends.
		"breakable": func(value string) string { return strings.ReplaceAll(cmp.Or(value, "empty"), "And", "\u200bAnd") },
		"mark":      func(o Outcome) string { return map[Outcome]string{Passed: "✓", Failed: "✗", Skipped: "–"}[o] },
	}
	page    = html.Must(html.New("page").Funcs(functions).Parse(pageHTML))
	summary = text.Must(text.New("summary").Funcs(functions).Parse(summaryMD))
)

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
	if err == nil {
		err = errors.Join(with(file), file.Close())
	}
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// HTML writes the page.
func (r *Run) HTML(w io.Writer) error { return page.Execute(w, r) }

// Markdown writes the summary: what a job's page, a mail or an issue can hold.
func (r *Run) Markdown(w io.Writer) error { return summary.Execute(w, r) }

// Areas are the specs by the folders of their scenarios.
func (r *Run) Areas() map[string][]Spec {
	areas := make(map[string][]Spec)
	for _, s := range r.Specs {
		name := cmp.Or(s.Area, "others")
		areas[name] = append(areas[name], s)
	}
	return areas
}

// Stories are those of the specs, by their anchors.
func (r *Run) Stories() map[string]*Story {
	stories := make(map[string]*Story)
	for _, s := range r.Specs {
		if s.Story != nil {
			stories[s.Anchor] = s.Story
		}
	}
	return stories
}

// Verdict says in a few words how the run ended.
func (r *Run) Verdict() string {
	passed, failed := r.Count(Passed), r.Count(Failed)
	switch {
	case failed > 0:
		return fmt.Sprintf("%d of %d failed", failed, passed+failed)
	case len(r.Trouble) > 0:
		return fmt.Sprintf("%d passed, and the run went wrong", passed)
	case passed == 0:
		return "nothing was played"
	default:
		return fmt.Sprintf("all %d passed", passed)
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

// escape keeps a text from being read as Markdown or HTML, on one line.
func escape(text string) string {
	return strings.NewReplacer("\\", "\\\\", "`", "\\`", "*", "\\*", "_", "\\_", "<", "&lt;", "[", "\\[", "|", "\\|").Replace(brief(text))
}
