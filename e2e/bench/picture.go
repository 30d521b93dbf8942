package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

// Picture is a plot of lines, which gnuplot draws; its y axis is logarithmic.
type Picture struct {
	File   string   `json:"file"`
	Title  string   `json:"title"`
	X      string   `json:"across"` // what the axes mean
	Y      string   `json:"up"`
	At     string   `json:"at"` // where a value of x is, $1, as gnuplot computes it
	Series []Series `json:"series"`
}

// Series is a line of it: all metrics of a form, as "Fleet/runners=* last-ms". The
// asterisk is a number, and that of the x axis.
type Series struct {
	Name string `json:"name"`
	Of   Metric `json:"of"`
}

// line is one with its points.
type line struct {
	Name   string
	Points []point
}

type point struct{ X, Y float64 }

func (s Series) points(results Results) (points []point) {
	before, after, _ := strings.Cut(string(s.Of), "*")
	for metric, value := range results.Metrics {
		text, ok := strings.CutPrefix(string(metric), before)
		text, ok2 := strings.CutSuffix(text, after)
		if x, err := strconv.ParseFloat(text, 64); ok && ok2 && err == nil && value > 0 {
			points = append(points, point{x, value})
		}
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.X, b.X) })
	return points
}

//go:embed picture.gp
var pictureText string

var drawing = template.Must(template.New("picture").Parse(pictureText))

var gnuplot = Program{"gnuplot", "gnuplot-nox"}

// draw draws it as SVG. Who looks at it on a dark page sees it inverted.
func (p Picture) draw(results Results) ([]byte, error) {
	var lines []line
	for _, s := range p.Series {
		if points := s.points(results); points != nil {
			lines = append(lines, line{s.Name, points})
		}
	}
	if lines == nil {
		return nil, errors.New("nothing has measured what it shows")
	}
	var script, problems bytes.Buffer
	if err := drawing.Execute(&script, struct {
		Picture
		Lines []line
	}{p, lines}); err != nil {
		return nil, err
	}
	cmd := exec.Command(gnuplot.Program)
	cmd.Stdin, cmd.Stderr = &script, &problems
	svg, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, &problems)
	}
	const dark = "<style>@media (prefers-color-scheme: dark) { svg { filter: invert(1) hue-rotate(180deg) } }</style>\n<desc>"
	return bytes.Replace(svg, []byte("<desc>"), []byte(dark), 1), nil
}
