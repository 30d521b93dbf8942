package scenario

import (
	"maps"
	"slices"
	"strings"
)

// Check wants a head that reports can show, and runners that are started.
func (f File) Check(c *Checker, _ string) {
	if strings.ContainsAny(f.Name, "\n\r") {
		c.Bad("name", "has more than one line")
	}
	if f.Timeout > maxTimeout {
		c.Bad("timeout", "is %s; must be at most %s", f.Timeout, maxTimeout)
	}
	if len(f.APIServerFlags) > 0 {
		c.Need("apiserverFlags", NeedAPIServer)
	}
	if c.Given("runners") && len(f.Runners) == 0 {
		return // which is reported already
	}
	started := map[RunnerName]bool{}
	for starts := range Actions[interface{ Starts() []RunnerName }](f.Steps) {
		for _, name := range starts.Starts() {
			started[name] = true
		}
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
		if other, ok := f.Runners[r.Machine]; c.Given(at+".machine") && (!ok || other.GPUs == 0 || other.Machine != "") {
			c.Bad(at+".machine", "is %s, which is no runner with gpus and a machine of its own", quote(r.Machine))
		}
		if r.Delayed && !started[RunnerName(name)] {
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
	for _, field := range []string{"profile", "visible"} {
		if c.Given(at+"."+field) && r.GPUs == 0 {
			c.Bad(at+"."+field, "is set, but the runner has no gpus")
		}
	}
	if c.Given(at + ".machine") {
		c.Need(at+".machine", NeedFakeGPUs)
	}
}

// Check wants a map that the API server can have.
func (m Map) Check(c *Checker, at string) {
	if c.Given(at+".absent") && !m.Absent {
		c.Bad(at+".absent", "is false; must be true")
	}
	if m.Absent && (len(m.Data)+len(m.BinaryData)+len(m.Labels)+len(m.Finalizers)+len(m.Annotations) > 0 || m.Immutable || m.Elsewhere) {
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
	if c.Given(at+".gpuMemory") && s.GPUs == 0 {
		c.Bad(at+".gpuMemory", "is set, but the tasks ask for no gpus")
	}
	if c.Given(at+".waiting") && s.Again == 0 {
		c.Bad(at+".waiting", "is set, but the group is not submitted again")
	}
}
