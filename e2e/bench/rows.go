package main

import (
	_ "embed"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// Plan is what is measured, and what the page shows of it.
type Plan struct {
	Time         Time              `json:"time"`
	Rows         []Row             `json:"rows"`
	Pictures     []Picture         `json:"pictures"`
	Dependencies map[string]string `json:"dependencies"` // what each module that the runner uses is for
	Harness      map[string]string `json:"harness"`      // and those that only the harness, the tests and builds use
}

// Row is a row of the table.
type Row struct {
	Name   string  `json:"name"`
	Says   string  `json:"says"` // what is measured, in a sentence
	Ours   Metric  `json:"ours"`
	Peer   string  `json:"peer"` // what a user would pick instead
	Theirs Metric  `json:"theirs"`
	Needs  Program `json:"needs"` // of the peer, or where there is none of the row itself
	Goal   Goal    `json:"goal"`
	// Limit is what a program costs that does only what cannot be avoided.
	Limit Metric `json:"limit"`
}

// Program is one that a peer needs, and the Debian package that has it.
type Program struct {
	Program string `json:"program"`
	Package string `json:"package"`
}

// Metric names a figure of a benchmark, as "Tasks/slots=4 tasks/s".
type Metric string

func (m Metric) benchmark() string { name, _, _ := strings.Cut(string(m), " "); return name }
func (m Metric) unit() string      { _, unit, _ := strings.Cut(string(m), " "); return unit }

// Goal is "≤ 3", or "≤ 1.3 × peer".
type Goal string

var goalForm = regexp.MustCompile(`^(≤|≥) ([0-9.]+)( × peer)?$`)

// atLimit is how much dearer than the limit a row may be that misses its goal, if the
// goal is to count as out of reach.
const atLimit = 1.3

//go:embed rows.yaml
var rowsYAML []byte

func load() (*Plan, error) {
	plan := new(Plan)
	if err := yaml.UnmarshalStrict(rowsYAML, plan); err != nil {
		return nil, fmt.Errorf("rows.yaml: %w", err)
	}
	for i, r := range plan.Rows {
		switch {
		case slices.ContainsFunc(plan.Rows[:i], func(other Row) bool { return other.Name == r.Name }):
			return nil, fmt.Errorf("rows.yaml: two rows are called %q", r.Name)
		case r.Says == "" || r.Ours.unit() == "" || (r.Peer == "") != (r.Theirs == ""):
			return nil, fmt.Errorf("rows.yaml: row %q must have says, ours, and both of peer and theirs or neither", r.Name)
		case r.Goal != "" && !goalForm.MatchString(string(r.Goal)):
			return nil, fmt.Errorf(`rows.yaml: the goal of row %q must be like "≤ 3" or "≥ 0.3 × peer"`, r.Name)
		}
	}
	return plan, nil
}

// missing are the programs of peers, and of pictures, that are not there, with their packages.
func (p *Plan) missing(there func(program string) bool) map[string]string {
	missing := map[string]string{}
	need := func(needed Program) {
		if needed.Program != "" && !there(needed.Program) {
			missing[needed.Program] = needed.Package
		}
	}
	for _, r := range p.Rows {
		need(r.Needs)
	}
	if len(p.Pictures) > 0 {
		need(gnuplot)
	}
	return missing
}

// benchmarks are those that the rows need, without what lacks a program.
func (p *Plan) benchmarks(missing map[string]string) (names []string) {
	for _, r := range p.Rows {
		metrics := []Metric{r.Ours, r.Limit, r.Theirs}
		switch _, lacks := missing[r.Needs.Program]; {
		case lacks && r.Peer == "":
			continue
		case lacks:
			metrics = metrics[:2]
		}
		for _, m := range metrics {
			if m != "" && !slices.Contains(names, m.benchmark()) {
				names = append(names, m.benchmark())
			}
		}
	}
	return names
}

// Line is a row with its figures; those that were not measured are nil.
type Line struct {
	Row
	Ours, Theirs, Ratio *float64
	Verdict             string
	Failed              bool // the verdict says why
}

// The verdicts. What failed, and what was not run, says why.
const (
	met      = "met"
	notMet   = "not met"
	limited  = "at the limit" // not met, and nobody could
	unjudged = "–"
)

func (p *Plan) lines(results Results, missing map[string]string) (lines []Line) {
	for _, r := range p.Rows {
		l := Line{Row: r, Ours: results.figure(r.Ours), Theirs: results.figure(r.Theirs), Verdict: unjudged}
		if l.Ours != nil && l.Theirs != nil && *l.Theirs != 0 {
			l.Ratio = new(*l.Ours / *l.Theirs)
		}
		l.judge(results.figure(r.Limit))
		pack, lacks := missing[r.Needs.Program]
		if lacks {
			l.Peer = strings.TrimSpace(l.Peer + " (not installed: apt-get install " + pack + ")")
		}
		for _, m := range []Metric{r.Limit, r.Theirs, r.Ours} {
			if m == "" || results.figure(m) != nil || lacks && (m == r.Theirs || r.Theirs == "") {
				continue
			}
			if lack := results.lack(m); lack.Failed {
				l.Verdict, l.Failed = "failed: "+lack.Reason, true
			} else if !l.Failed {
				l.Verdict = "not run: " + lack.Reason
			}
		}
		lines = append(lines, l)
	}
	return lines
}

// judge compares with the goal what was measured for it.
func (l *Line) judge(limit *float64) {
	goal := goalForm.FindStringSubmatch(string(l.Goal))
	if goal == nil {
		return
	}
	got := l.Ours
	if goal[3] != "" {
		got = l.Ratio
	}
	if got == nil {
		return
	}
	bound, _ := strconv.ParseFloat(goal[2], 64)
	switch {
	case goal[1] == "≤" && *got <= bound || goal[1] == "≥" && *got >= bound:
		l.Verdict = met
	case limit != nil && max(*l.Ours / *limit, *limit / *l.Ours) <= atLimit:
		l.Verdict = limited
	default:
		l.Verdict = notMet
	}
}

// figure writes a number with three digits that count.
func figure(v *float64) string {
	if v == nil {
		return unjudged
	}
	digits := 2
	if *v != 0 {
		digits = max(0, 2-int(math.Floor(math.Log10(math.Abs(*v)))))
	}
	return strconv.FormatFloat(*v, 'f', min(digits, 4), 64)
}

// Unit is that of both figures, as people write it: what stands before it in the metric
// is in the row's name.
func (l Line) Unit() string {
	unit := l.Row.Ours.unit()
	return unit[strings.LastIndex(unit, "-")+1:]
}

// Anchor names the line in the page.
func (l Line) Anchor() string { return strings.NewReplacer(" ", "-", ",", "", ":", "").Replace(l.Name) }
