package main

import (
	"path"
	"regexp"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// Results are the metrics that were measured, and why others were not.
type Results struct {
	Metrics map[Metric]float64
	Lacks   map[string]Lack // by benchmark, for those in it, too
}

// Lack is why there is no figure.
type Lack struct {
	Reason string
	Failed bool // else it was left out, for that reason
}

func (r Results) figure(m Metric) *float64 {
	if v, ok := r.Metrics[m]; ok {
		return &v
	}
	return nil
}

// lack says why there is no figure of a metric.
func (r Results) lack(m Metric) Lack {
	for name := m.benchmark(); name != "."; name = path.Dir(name) {
		if l, ok := r.Lacks[name]; ok {
			return l
		}
	}
	return Lack{"nothing has measured " + string(m), true}
}

// add keeps the first reason, from which others follow.
func (r Results) add(benchmark string, l Lack) {
	if _, told := r.Lacks[benchmark]; !told {
		r.Lacks[benchmark] = l
	}
}

var (
	// processors is what go test adds to a name.
	processors = regexp.MustCompile(`-\d+$`)
	message    = regexp.MustCompile(`^\s+\S+\.go:\d+: (.*)`)
	verdict    = regexp.MustCompile(`--- (FAIL|SKIP): Benchmark(\S+)`)
)

// read takes out of what benchmarks print their figures, and the reasons of those that
// have none: the last message before it is told that there are none.
func (r Results) read(text string) {
	reader := benchfmt.NewReader(strings.NewReader(text), "go test")
	for reader.Scan() {
		result, ok := reader.Result().(*benchfmt.Result)
		if !ok {
			continue // a line for people
		}
		name := processors.ReplaceAllString(result.Name.String(), "")
		for _, v := range result.Values {
			if v.OrigUnit != "" { // the reader likes other units better
				v.Unit, v.Value = v.OrigUnit, v.OrigValue
			}
			r.Metrics[Metric(name+" "+v.Unit)] = v.Value
		}
	}
	said := ""
	for line := range strings.Lines(text) {
		if m := message.FindStringSubmatch(line); m != nil {
			said = strings.TrimSpace(m[1])
		} else if v := verdict.FindStringSubmatch(line); v != nil && said != "" { // else something in it has told
			r.add(processors.ReplaceAllString(v[2], ""), Lack{said, v[1] == "FAIL"})
			said = ""
		}
	}
}
