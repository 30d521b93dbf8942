package conformance

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/studioml/studio-go-runner/e2e/catalogue"
	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// Level is how much of the contract a runner keeps.
type Level string

// The levels. A runner conforms at Extended if it does at Core as well.
const (
	Core     Level = "core"
	Extended Level = "extended"
)

// Levels are all of them, in order.
var Levels = []Level{Core, Extended}

// MaxCore keeps core small enough for anybody's CI.
const MaxCore = 25

// Suite is what there is to play, and why the other rows are not.
type Suite struct {
	Scenarios map[Level][]scenario.Scenario
	// Left are the rows that no runner is asked for, each with the reason.
	Left map[catalogue.Row]string
}

//go:embed levels.yaml
var levelsFile []byte

// Load reads the suite from the directory of this package.
func Load(dir string) (*Suite, error) {
	all, err := engine.Format.LoadDir(filepath.Join(dir, "rows"))
	if err != nil {
		return nil, err
	}
	s := &Suite{Scenarios: make(map[Level][]scenario.Scenario), Left: make(map[catalogue.Row]string)}
	for _, one := range all {
		level := Level(one.Area)
		s.Scenarios[level] = append(s.Scenarios[level], one)
	}
	var left []struct {
		Rows   []catalogue.Row `json:"rows"`
		Reason string          `json:"reason"`
	}
	if err := yaml.UnmarshalStrict(levelsFile, &left); err != nil {
		return nil, fmt.Errorf("levels.yaml: %w", err)
	}
	for _, group := range left {
		for _, row := range group.Rows {
			s.Left[row] = group.Reason
		}
	}
	return s, s.check()
}

// Rows are those of a level, in order. What core shows, it alone answers for.
func (s *Suite) Rows(level Level) []catalogue.Row {
	rows := make(map[catalogue.Row]bool)
	for _, one := range s.Scenarios[level] {
		for _, row := range one.Rows {
			rows[row] = true
		}
	}
	if level == Extended {
		for _, row := range s.Rows(Core) {
			delete(rows, row)
		}
	}
	return slices.Sorted(maps.Keys(rows))
}

// check returns all that is wrong with the suite.
func (s *Suite) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("conformance: "+format, args...)) }
	if n := len(s.Scenarios[Core]); n > MaxCore {
		bad("core has %d scenarios; must be at most %d", n, MaxCore)
	}
	for level, all := range s.Scenarios {
		if !slices.Contains(Levels, level) {
			bad("rows/%s is no level; must be one of %v", level, Levels)
		}
		for _, one := range all {
			if err := blackBox(one); err != nil {
				errs = append(errs, err)
			}
		}
	}
	shown := slices.Concat(s.Rows(Core), s.Rows(Extended))
	for _, entry := range catalogue.Rows {
		_, left := s.Left[entry.Number]
		switch played := slices.Contains(shown, entry.Number); {
		case played && left:
			bad("row %d is played, and levels.yaml says why it is not", entry.Number)
		case !played && !left:
			bad("row %d (%s) is in no level, and levels.yaml does not say why", entry.Number, entry.Title)
		}
	}
	return errors.Join(errs...)
}

// What a scenario may do and ask for, that needs nothing of a particular runner.
var (
	openVerbs = []string{"apply", "apiserver", "await", "delete", "expect", "kubectl", "mark", "never", "network", "offset",
		"permissions", "release", "repeat", "signal", "start", "submit", "token", "wait"}
	openFacts = []string{"exit", "finished", "processes", "started"}
)

// blackBox says where a scenario looks into a runner.
func blackBox(s scenario.Scenario) error {
	var errs []error
	bad := func(line int, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s:%d: "+format, append([]any{s.Path, line}, args...)...))
	}
	for _, step := range s.Steps {
		if !slices.Contains(openVerbs, step.Verb) {
			bad(step.Line, "%s is not open to every runner; must be one of %s", step.Verb, strings.Join(openVerbs, ", "))
		}
	}
	for _, that := range scenario.Actions[scenario.Conditions](s.Steps) {
		for subject, condition := range that {
			for fact := range condition {
				if !slices.Contains(openFacts, fact) {
					bad(s.Line, "%s of %s is not open to every runner; must be one of %s", fact, subject, strings.Join(openFacts, ", "))
				}
			}
		}
	}
	for name, r := range s.Runners {
		for flag := range r.Flags {
			if !slices.Contains(adapterFlags, string(flag)) {
				bad(s.Line, "runner %s has the flag %s, which adapters do not know; must be one of %s", name, flag, strings.Join(adapterFlags, ", "))
			}
		}
	}
	return errors.Join(errs...)
}
