package main

import (
	"cmp"
	_ "embed"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Picture is a plot of lines: y is logarithmic, and the values of x, few and chosen, are
// drawn at equal distances.
type Picture struct {
	File   string   `json:"file"`
	Title  string   `json:"title"`
	X      string   `json:"across"` // what the axes mean
	Y      string   `json:"up"`
	Series []Series `json:"series"`
}

// Series is a line of it: all metrics of a form, as "Fleet/runners=* last-ms". The
// asterisk is a number, and that of the x axis.
type Series struct {
	Name string `json:"name"`
	Of   Metric `json:"of"`
}

// point is one of a series, in its own units.
type point struct{ x, y float64 }

func (s Series) points(results Results) (points []point) {
	before, after, _ := strings.Cut(string(s.Of), "*")
	for metric, value := range results.Metrics {
		text, ok := strings.CutPrefix(string(metric), before)
		text, ok2 := strings.CutSuffix(text, after)
		if x, err := strconv.ParseFloat(text, 64); ok && ok2 && err == nil && value > 0 {
			points = append(points, point{x, value})
		}
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.x, b.x) })
	return points
}

// The frame of a plot, in pixels. There is room above it for the names of four lines.
const (
	left, right, top, bottom = 70.0, 560.0, 112.0, 352.0
)

// mark is a tick of an axis, or a name at the end of a line.
type mark struct {
	At, Y float64
	Text  string
}

type curve struct {
	mark
	Class  string
	Points []mark
}

//go:embed picture.svg
var pictureText string

var drawing = template.Must(template.New("picture").Parse(pictureText))

// draw draws it as SVG, in colours that suit a light and a dark page.
func (p Picture) draw(w io.Writer, results Results) error {
	var xs, ys []float64
	series := make([][]point, len(p.Series))
	for i, s := range p.Series {
		series[i] = s.points(results)
		for _, at := range series[i] {
			xs, ys = append(xs, at.x), append(ys, at.y)
		}
	}
	slices.Sort(xs)
	xs = slices.Compact(xs)
	if len(xs) == 0 {
		xs, ys = []float64{1}, []float64{1}
	}
	low, high := math.Floor(math.Log10(slices.Min(ys))), math.Ceil(math.Log10(slices.Max(ys)))
	high = max(high, low+1)
	toY := func(y float64) float64 { return bottom - (bottom-top)*(math.Log10(y)-low)/(high-low) }
	toX := func(x float64) float64 {
		i, _ := slices.BinarySearch(xs, x)
		return left + (right-left)*float64(i)/float64(max(1, len(xs)-1))
	}
	var ticksX, ticksY []mark
	for _, x := range xs {
		ticksX = append(ticksX, mark{At: toX(x), Text: strconv.FormatFloat(x, 'f', -1, 64)})
	}
	for e := low; e <= high; e++ {
		ticksY = append(ticksY, mark{At: toY(math.Pow(10, e)), Text: strconv.FormatFloat(math.Pow(10, e), 'f', -1, 64)})
	}
	var curves []curve
	for i, points := range series {
		c := curve{Class: "s" + strconv.Itoa(i)}
		for _, at := range points {
			c.Points = append(c.Points, mark{At: toX(at.x), Y: toY(at.y)})
		}
		c.mark = mark{At: left, Y: 42 + 16*float64(i), Text: p.Series[i].Name}
		curves = append(curves, c)
	}
	return drawing.Execute(w, map[string]any{"Title": p.Title, "X": p.X, "Y": p.Y, "TicksX": ticksX, "TicksY": ticksY, "Curves": curves})
}
