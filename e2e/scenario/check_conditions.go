package scenario

import (
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
)

// tasksOnly are the fields of a condition that only tasks have, and tasksToo
// those that they share with runners. All others are of runners only.
var (
	tasksOnly = []string{"left", "queued", "dead"}
	tasksToo  = []string{"started", "finished"}
)

// conditionWords are the fields of a condition that take one of a few words.
var conditionWords = map[string][]string{
	"phase":     phases,
	"effective": effectives,
	"target":    drainTargets,
	"source":    sources,
	"shadowed":  effectives,
}

// conditions checks what a step waits for or expects.
func (c *checker) conditions(at string, all map[string]Condition) {
	c.notEmpty(at, len(all))
	for _, subject := range slices.Sorted(maps.Keys(all)) {
		at := at + "." + subject
		group, isGroup := strings.CutPrefix(subject, Tasks+"/")
		switch {
		case isGroup:
			if _, ok := c.groups[group]; !ok {
				c.bad(at, "group %s was not submitted before%s", quote(group), hint(group, slices.Sorted(maps.Keys(c.groups))))
			}
		case subject == Tasks:
		default:
			if _, ok := c.file.Runners[subject]; !ok {
				c.noSubject(at, subject, []string{Tasks, Tasks + "/<group>"})
			}
		}
		c.condition(at, all[subject], isGroup || subject == Tasks)
	}
}

// condition checks the fields of one subject's condition.
func (c *checker) condition(at string, condition Condition, ofTasks bool) {
	given := 0
	for _, f := range fieldsOf(reflect.TypeFor[Condition]()) {
		below := at + "." + f.name
		if !c.given(below) {
			continue
		}
		given++
		onlyTasks, tasks := slices.Contains(tasksOnly, f.name), slices.Contains(tasksToo, f.name)
		switch {
		case ofTasks && !onlyTasks && !tasks:
			c.bad(below, "is of runners; tasks have %s", list(slices.Concat(tasksToo, tasksOnly)))
		case !ofTasks && onlyTasks:
			c.bad(below, "is of tasks; write it below the subject %s", Tasks)
		}
		switch v := reflect.ValueOf(condition).Field(f.index).Interface().(type) {
		case string:
			if allowed, ok := conditionWords[f.name]; ok {
				c.word(below, v, allowed)
			} else if v == "" {
				c.bad(below, "is empty")
			}
		case *int:
			c.count(below, f.name, *v)
		}
	}
	if given == 0 {
		c.bad(at, "is empty, expected are conditions")
	}
}

func (c *checker) count(at, name string, number int) {
	if name == "exit" {
		c.between(at, number, -1, 255)
		return
	}
	c.between(at, number, 0, math.MaxInt32)
}
