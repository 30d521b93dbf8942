package report

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Markdown writes the summary: what a job's page, a mail or an issue can hold.
func (r *Run) Markdown(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s on %s\n\n", r.Verdict(), r.Target)
	fmt.Fprintf(&b, "%d passed, %d failed, %d skipped in %s", r.Count(Passed), r.Count(Failed), r.Count(Skipped), short(r.Length))
	for _, text := range append(slices.Clone(r.Around), runnerVersion(r.Version)) {
		if text != "" {
			fmt.Fprintf(&b, ", %s", text)
		}
	}
	fmt.Fprintf(&b, ", %s. [The page](%s) has timelines.\n", r.Start.UTC().Format("2006-01-02 15:04 UTC"), PageFile)
	for _, text := range r.Trouble {
		fmt.Fprintf(&b, "\n**%s**\n", escape(text))
	}
	if failed := r.With(Failed); len(failed) > 0 {
		b.WriteString("\n## Failures\n\n")
		for _, s := range failed {
			fmt.Fprintf(&b, "* **%s** (%s)\n  * %s\n  * %s\n", escape(s.Name), s.Location, escape(s.Deviation()), escape(s.Moment()))
			if len(s.Evidence) > 0 {
				var links []string
				for _, f := range s.Evidence {
					links = append(links, fmt.Sprintf("[%s](%s)", f.Name, f.Path))
				}
				fmt.Fprintf(&b, "  * %s\n", strings.Join(links, ", "))
			}
		}
	}
	if lines := r.Matrix(); lines != nil {
		fmt.Fprintf(&b, "\n## Both maps at start: %s\n\n| global \\ node |", matrixSum(lines))
		for _, c := range lines[0] {
			fmt.Fprintf(&b, " %s |", valueName(c.Node))
		}
		b.WriteString("\n|---" + strings.Repeat("|---", len(values)) + "|\n")
		for _, line := range lines {
			fmt.Fprintf(&b, "| **%s** |", valueName(line[0].Global))
			for _, c := range line {
				fmt.Fprintf(&b, " %s |", cellBrief(c))
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("\n## Slowest\n\n")
	for _, s := range r.Slowest(8) {
		fmt.Fprintf(&b, "* %s: %s\n", short(s.Length), escape(s.Name))
	}
	if skipped := r.With(Skipped); len(skipped) > 0 {
		b.WriteString("\n## Skipped\n\n")
		for _, s := range skipped {
			fmt.Fprintf(&b, "* %s: %s\n", escape(s.Name), escape(s.Failure))
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func runnerVersion(version string) string {
	if version == "" {
		return ""
	}
	return "runner " + version
}

func cellBrief(c Cell) string {
	switch {
	case c.Got == nil:
		return "–"
	case c.Right:
		return c.Want.Phase
	}
	return fmt.Sprintf("**%s, not %s**", c.Got.Phase, c.Want.Phase)
}

// escape keeps a text from being read as Markdown or HTML, on one line.
func escape(text string) string {
	return strings.NewReplacer("\\", "\\\\", "`", "\\`", "*", "\\*", "_", "\\_", "<", "&lt;", "[", "\\[", "|", "\\|").Replace(brief(text))
}
