package engine

import (
	"strings"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

// Allowed is what a scenario makes right.
var Allowed = allowed

// Judge compares the record with conditions and returns what is wrong, and why
// it is hopeless. Bodies are what the runners' paths answer, by runner and path; at
// the mark "then" they answered what before says.
func Judge(env targets.Env, record *history.History, that scenario.Conditions,
	queue *targets.Contents, bodies, before map[string]string) (wrong []string, hopeless string) {
	answer := func(bodies map[string]string) {
		for path, body := range bodies {
			name, path, _ := strings.Cut(path, "/")
			code := 200
			if body == "" {
				code = 503
			}
			record.Add(history.Entry{Runner: name, Answer: &history.Answer{Path: "/" + path, Code: code, Body: body}})
		}
	}
	answer(before)
	p := &play{env: env, record: record, then: map[scenario.Mark]*history.Summary{"then": history.Sum(record.Entries())}}
	answer(bodies)
	if queue != nil {
		record.Add(history.Entry{Queue: queue})
	}
	p.scenario.Runners = map[string]scenario.Runner{"a": {}, "b": {}, "c": {}}
	record.View(func(s *history.Summary) {
		v := p.judge(s, that, true)
		wrong, hopeless = v.wrong, v.hopeless
	})
	return wrong, hopeless
}

// Facts are the names of all facts.
func Facts() (names []string) {
	for _, f := range factTable {
		names = append(names, f.Name)
	}
	return names
}
