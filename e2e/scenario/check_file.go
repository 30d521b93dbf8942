package scenario

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Check wants a head that reports can show, runners that are started, and something
// that can fail.
func (f File) Check(c *Checker, _ string) {
	if len(f.Steps) > 0 && !c.asserts {
		c.Bad("steps", "cannot fail: no step says what must be so; add an await, expect or never")
	}
	if strings.ContainsAny(f.Name, "\n\r") {
		c.Bad("name", "has more than one line")
	}
	if f.Timeout > maxTimeout {
		c.Bad("timeout", "is %s; must be at most %s", f.Timeout, maxTimeout)
	}
	if len(f.APIServerFlags) > 0 {
		c.Need("apiserverFlags", NeedAPIServer)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Runners)) {
		at := "runners." + name
		switch {
		case slices.Contains([]string{Global, Tasks, Runners}, name):
			c.Bad(at, "a runner cannot be called %s, which is a subject of its own", name)
		case !hostRule.MatchString(name):
			c.Bad(at, "%s cannot be a host name; must be up to 63 small letters, digits and '-'", quote(name))
		}
		r := f.Runners[name]
		if other, ok := f.Runners[r.Machine]; r.Machine != "" && (!ok || other.GPUs == 0 || other.Machine != "") {
			c.Bad(at+".machine", "is %s, which is no runner with gpus and a machine of its own", quote(r.Machine))
		}
		if r.Delayed && !c.done["start "+name] {
			c.Bad(at+".delayed", "is true, but no step starts the runner")
		}
	}
}

// Check wants the row to be one.
func (r Row) Check(c *Checker, at string) {
	if r < 1 || r > MaxRow {
		c.Bad(at, "is %d; must be 1 to %d", r, MaxRow)
	}
}

// Check wants GPUs where something of them is said.
func (r Runner) Check(c *Checker, at string) {
	if r.GPUs > 0 {
		c.Need(at+".gpus", NeedGPUs)
	}
	c.Needs(at, "profile", r.GPUs > 0, "the runner has no gpus")
	c.Needs(at, "visible", r.GPUs > 0, "the runner has no gpus")
	if r.Machine != "" {
		c.Need(at+".machine", NeedFakeGPUs)
	}
}

// Check wants a map that the API server can have.
func (m Map) Check(c *Checker, at string) {
	c.Needs(at, "absent", m.Absent, "is false; leave it out")
	if m.Absent && !reflect.DeepEqual(m, Map{Absent: true}) {
		c.Bad(at, "is absent and has other fields too")
	}
	for _, key := range slices.Sorted(maps.Keys(m.Data)) {
		if !dataRule.MatchString(key) {
			c.Bad(at+".data."+key, "key %s is not allowed; must be letters, digits, '-', '_' and '.'", quote(key))
		}
		if _, both := m.BinaryData[key]; both {
			c.Bad(at+".binaryData."+key, "is in data too")
		}
	}
}

// Check lets later steps name the group.
func (s Submit) Check(c *Checker, at string) {
	if _, taken := c.groups[Group(s.Group)]; taken {
		c.Bad(at+".group", "%s was submitted before", quote(string(s.Group)))
	}
	c.groups[Group(s.Group)] = &s
	c.Needs(at, "gpuMemory", s.GPUs > 0, "the tasks ask for no gpus")
	c.Needs(at, "waiting", s.Again > 0, "the group is not submitted again")
}
