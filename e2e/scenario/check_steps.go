package scenario

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

func (c *checker) steps() {
	if c.given("steps") && len(c.file.Steps) == 0 {
		c.bad("steps", "is empty")
		return
	}
	asserts := false
	for i := range c.file.Steps {
		at, s := fmt.Sprintf("steps[%d]", i), &c.file.Steps[i]
		c.step(at, s)
		asserts = asserts || s.Await != nil || s.Expect != nil || s.Never != nil ||
			(s.Manifest != nil && s.Manifest.Refused != "")
	}
	if len(c.file.Steps) > 0 && !asserts {
		c.bad("steps", "cannot fail: there is no await, expect, never or refused manifest among them")
	}
	for _, name := range slices.Sorted(maps.Keys(c.file.Runners)) {
		if c.file.Runners[name].Delayed && !c.started[name] {
			c.bad("runners."+name+".delayed", "is true, but no step starts the runner")
		}
	}
}

// step checks that a step does one thing, and that this can be done.
func (c *checker) step(at string, s *Step) {
	var does []string
	all := fieldsOf(reflect.TypeFor[Step]())
	for _, f := range all {
		if c.given(at + "." + f.name) {
			does = append(does, f.name)
		}
	}
	switch len(does) {
	case 0:
		c.bad(at, "does nothing, expected is one of %s", list(names(all)))
		return
	case 1:
	default:
		c.bad(at, "does more than one thing: %s; make a step of each", strings.Join(does, ", "))
	}
	for _, do := range does {
		c.action(at+"."+do, do, s)
	}
}

// action checks one field of a step.
func (c *checker) action(at, do string, s *Step) {
	switch do {
	case "apply":
		c.applied(at, s.Apply, false)
	case "replace":
		c.applied(at, s.Replace, true)
	case "delete":
		c.subjects(at, s.Delete)
	case "removeKey":
		c.subjects(at, s.RemoveKey)
	case "touch":
		c.subjects(at, s.Touch)
	case "flip":
		c.flip(at, s.Flip)
	case "crowd":
		c.between(at+".maps", s.Crowd.Maps, 1, maxCrowd)
	case "manifest":
		if c.given(at+".text") && strings.TrimSpace(s.Manifest.Text) == "" {
			c.bad(at+".text", "is empty")
		}
		if c.given(at+".refused") && s.Manifest.Refused == "" {
			c.bad(at+".refused", "is empty, expected is a part of the refusal")
		}
	case "admission":
		if !s.Admission {
			c.bad(at, "is false, allowed is true")
			return
		}
		c.need(at, NeedAdmission)
	case "submit":
		c.submit(at, s.Submit)
	case "release":
		c.release(at, s.Release)
	case "start":
		c.start(at, s.Start)
	case "signal":
		c.need(at, NeedSignals)
		c.notEmpty(at, len(s.Signal))
		for _, name := range slices.Sorted(maps.Keys(s.Signal)) {
			c.runnerName(at+"."+name, name)
			c.word(at+"."+name, s.Signal[name], signals)
		}
	case "apiserver":
		c.need(at, NeedAPIServer)
		c.word(at, s.APIServer, apiserverVerbs)
	case "network":
		c.need(at, NeedNetwork)
		if d, err := time.ParseDuration(s.Network); err != nil || d <= 0 {
			c.word(at, s.Network, slices.Concat(networkVerbs, []string{"a duration above zero"}))
		}
	case "queue":
		c.need(at, NeedQueueOutage)
		c.word(at, s.Queue, queueVerbs)
	case "permissions":
		c.word(at, string(s.Permissions), permissions)
	case "fakegpu":
		c.need(at, NeedFakeGPUs)
		c.notEmpty(at, len(s.FakeGPU))
		for _, name := range slices.Sorted(maps.Keys(s.FakeGPU)) {
			c.runnerName(at+"."+name, name)
			c.fakegpu(at+"."+name, s.FakeGPU[name])
		}
	case "mark":
		c.mark(at, s.Mark)
	case "await":
		c.conditions(at, s.Await)
	case "expect":
		c.conditions(at, s.Expect)
	case "never":
		if since := s.Never.Since; c.given(at+".since") && !c.marks[since] {
			c.bad(at+".since", "no step before marks %s%s", quote(since), hint(since, slices.Sorted(maps.Keys(c.marks))))
		}
		if c.given(at + ".that") {
			c.conditions(at+".that", s.Never.That)
		}
	case "wait":
		if c.given(at+".because") && strings.TrimSpace(s.Wait.Because) == "" {
			c.bad(at+".because", "is empty, expected is why there is nothing better to wait for")
		}
		if limit := timeoutOf(c.file); s.Wait.For >= limit {
			c.bad(at+".for", "is %s, which is not below the scenario's timeout of %s", s.Wait.For, limit)
		}
	default:
		panic("scenario: no check for a step's " + do)
	}
}

// timeoutOf returns the timeout that a file will have.
func timeoutOf(f *File) Duration {
	if f.Timeout == 0 {
		return defaultTimeout
	}
	return f.Timeout
}

func (c *checker) notEmpty(at string, count int) {
	if count == 0 {
		c.bad(at, "is empty")
	}
}

// applied checks maps that a step creates.
func (c *checker) applied(at string, all map[string]Map, anew bool) {
	c.notEmpty(at, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c.mapSubject(at+"."+name, name)
		c.configMap(at+"."+name, all[name])
		if anew && all[name].Absent {
			c.bad(at+"."+name, "is absent; to delete a map use delete")
		}
	}
}

// subjects checks a list of maps.
func (c *checker) subjects(at string, all []string) {
	c.notEmpty(at, len(all))
	c.words(at, all, nil)
	for i, name := range all {
		c.mapSubject(fmt.Sprintf("%s[%d]", at, i), name)
	}
}

func (c *checker) flip(at string, f *Flip) {
	if c.given(at + ".map") {
		c.mapSubject(at+".map", f.Map)
	}
	if c.given(at + ".values") {
		c.notEmpty(at+".values", len(f.Values))
	}
	c.between(at+".times", f.Times, 1, maxFlips)
	if took, limit := f.Every*Duration(f.Times), timeoutOf(c.file); f.Times <= maxFlips && took >= limit {
		c.bad(at, "takes %s, which is not below the scenario's timeout of %s", took, limit)
	}
}

func (c *checker) release(at string, groups []string) {
	c.notEmpty(at, len(groups))
	for i, group := range groups {
		at := fmt.Sprintf("%s[%d]", at, i)
		s, ok := c.groups[group]
		switch {
		case !ok:
			c.bad(at, "group %s was not submitted before%s", quote(group), hint(group, slices.Sorted(maps.Keys(c.groups))))
		case !s.Hold:
			c.bad(at, "group %s is not held", quote(group))
		case c.freed[group]:
			c.bad(at, "group %s was released before", quote(group))
		}
		c.freed[group] = true
	}
}

func (c *checker) start(at string, runners []string) {
	c.notEmpty(at, len(runners))
	c.words(at, runners, nil)
	for i, name := range runners {
		c.runnerName(fmt.Sprintf("%s[%d]", at, i), name)
		c.started[name] = true
	}
}

// fakegpu checks that a command line can be one; fakegpu itself knows the rest.
func (c *checker) fakegpu(at, line string) {
	words := strings.Fields(line)
	if len(words) == 0 {
		c.bad(at, "is empty")
		return
	}
	c.word(at, words[0], fakegpuVerbs)
	directories := slices.DeleteFunc(words, func(w string) bool { return w != "DIR" })
	if len(directories) != 1 {
		c.bad(at, "has %d words DIR, want one, for the state directory", len(directories))
	}
}

func (c *checker) mark(at, name string) {
	switch {
	case strings.TrimSpace(name) == "":
		c.bad(at, "is empty")
	case c.marks[name]:
		c.bad(at, "%s was marked before", quote(name))
	}
	c.marks[name] = true
}
