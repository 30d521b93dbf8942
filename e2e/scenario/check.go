package scenario

import (
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Bounds of what a scenario may ask for. Far more than any row needs, and
// little enough that a slip of the pen does not keep a machine busy for hours.
const (
	maxName    = 120 // characters, so that a report's line fits a screen
	maxTasks   = 10000
	maxSlots   = 256
	maxFlips   = 100000
	maxCrowd   = 20000
	maxGroup   = 40 // characters: a task is called <group>-<number>
	maxTimeout = Duration(time.Hour)
)

var (
	// dnsLabel is RFC 1123's label, as Kubernetes wants it in names.
	dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	// labelName keeps clear of the signs that Ginkgo's label filter uses.
	labelName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	flagName  = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	dataKey   = regexp.MustCompile(`^[-._a-zA-Z0-9]{1,253}$`)
)

// checker finds what a file that can be read says wrong.
type checker struct {
	*decoder
	file *File

	// What the steps so far have done.
	groups  map[string]*Submit
	freed   map[string]bool // groups that were released
	marks   map[string]bool
	started map[string]bool // delayed runners with a start step
}

// check reports the mistakes in an expanded file.
func check(d *decoder, f *File) {
	c := &checker{d, f, map[string]*Submit{}, map[string]bool{}, map[string]bool{}, map[string]bool{}}
	c.head()
	for _, name := range slices.Sorted(maps.Keys(f.Maps)) {
		c.mapSubject("maps."+name, name)
		c.configMap("maps."+name, f.Maps[name])
	}
	for i := range f.Tasks {
		c.submit(fmt.Sprintf("tasks[%d]", i), &f.Tasks[i])
	}
	if c.given("runners") && len(f.Runners) == 0 {
		c.bad("runners", "is empty")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Runners)) {
		c.runner("runners."+name, name, f.Runners[name])
	}
	c.steps()
}

// bad reports a mistake at a path, unless what stands there could not even be
// read.
func (c *checker) bad(at, format string, args ...any) {
	if !c.failed[at] {
		c.problems.addAt(c.line(at), at, fmt.Sprintf(format, args...))
	}
}

// given tells whether the file has that field.
func (c *checker) given(at string) bool {
	_, ok := c.lines[at]
	return ok
}

func (c *checker) head() {
	f := c.file
	switch {
	case c.given("name") && strings.TrimSpace(f.Name) == "":
		c.bad("name", "is empty")
	case strings.ContainsAny(f.Name, "\n\r"):
		c.bad("name", "has more than one line")
	case len(f.Name) > maxName:
		c.bad("name", "has %d characters, allowed are %d", len(f.Name), maxName)
	}
	if c.given("rows") && len(f.Rows) == 0 {
		c.bad("rows", "is empty, expected are rows of the catalogue")
	}
	for i, row := range f.Rows {
		at := fmt.Sprintf("rows[%d]", i)
		if row < 1 || row > MaxRow {
			c.bad(at, "is %d, allowed is 1 to %d", row, MaxRow)
		}
		if slices.Contains(f.Rows[:i], row) {
			c.bad(at, "%d stands there twice", row)
		}
	}
	if c.given("targets") && len(f.Targets) == 0 {
		c.bad("targets", "is empty, allowed is %s", list(Targets))
	}
	c.words("targets", f.Targets, Targets)
	c.words("needs", words(f.Needs...), needs)
	c.words("labels", f.Labels, nil)
	for i, label := range f.Labels {
		if !labelName.MatchString(label) {
			c.bad(fmt.Sprintf("labels[%d]", i), "is %s, allowed are small letters, digits and '-'", quote(label))
		}
	}
	if f.Timeout > maxTimeout {
		c.bad("timeout", "is %s, allowed is up to %s", f.Timeout, maxTimeout)
	}
	if c.given("permissions") {
		c.word("permissions", string(f.Permissions), permissions)
	}
}

// word reports a word that is not allowed.
func (c *checker) word(at, word string, allowed []string) {
	if wrong := oneOf(word, allowed); wrong != "" {
		c.bad(at, "%s", wrong)
	}
}

// words reports words of a list that are not allowed or stand there twice; nil
// allows all words.
func (c *checker) words(at string, given, allowed []string) {
	for i, word := range given {
		at := fmt.Sprintf("%s[%d]", at, i)
		if allowed != nil {
			c.word(at, word, allowed)
		}
		if slices.Contains(given[:i], word) {
			c.bad(at, "%s stands there twice", quote(word))
		}
	}
}

// mapSubject reports a name that no map belongs to.
func (c *checker) mapSubject(at, name string) {
	if _, ok := c.file.Runners[name]; !ok && name != Global {
		c.noSubject(at, name, []string{Global})
	}
}

// runnerName reports a name that no runner has.
func (c *checker) runnerName(at, name string) bool {
	_, ok := c.file.Runners[name]
	if !ok {
		c.noSubject(at, name, nil)
	}
	return ok
}

func (c *checker) noSubject(at, name string, others []string) {
	if len(c.file.Runners) == 0 {
		return // which is reported already
	}
	subjects := append(others, slices.Sorted(maps.Keys(c.file.Runners))...)
	c.bad(at, "%s is not in this file, allowed is %s%s", quote(name), list(subjects), hint(name, subjects))
}

func (c *checker) configMap(at string, m Map) {
	if c.given(at+".absent") && !m.Absent {
		c.bad(at+".absent", "is false, allowed is true")
	}
	if m.Absent && (len(m.Data)+len(m.BinaryData)+len(m.Labels) > 0 || m.Immutable || m.Elsewhere) {
		c.bad(at, "is absent and has other fields too")
	}
	for _, key := range slices.Sorted(maps.Keys(m.Data)) {
		if !dataKey.MatchString(key) {
			c.bad(at+".data."+key, "key %s is not allowed, allowed are letters, digits, '-', '_' and '.'", quote(key))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(m.BinaryData)) {
		at := at + ".binaryData." + key
		if _, both := m.Data[key]; both {
			c.bad(at, "is in data too")
		}
		if _, err := base64.StdEncoding.DecodeString(m.BinaryData[key]); err != nil {
			c.bad(at, "is %s, expected is base64", quote(m.BinaryData[key]))
		}
	}
}

func (c *checker) runner(at, name string, r Runner) {
	switch {
	case name == Global || name == Tasks:
		c.bad(at, "a runner cannot be called %s, which is a subject of its own", name)
	case !dnsLabel.MatchString(name):
		c.bad(at, "%s cannot be a host name, allowed are up to 63 small letters, digits and '-'", quote(name))
	}
	c.between(at+".gpus", r.GPUs, 0, api.MaxTaskGPUs)
	c.between(at+".slots", r.Slots, 1, maxSlots)
	if r.GPUs > 0 {
		c.need(at+".gpus", NeedGPUs)
	}
	if c.given(at+".profile") && r.GPUs == 0 {
		c.bad(at+".profile", "is set, but the runner has no gpus")
	}
	if c.given(at+".visible") && r.GPUs == 0 {
		c.bad(at+".visible", "is set, but the runner has no gpus")
	}
	if c.given(at + ".machine") {
		c.need(at+".machine", NeedFakeGPUs)
		if other, ok := c.file.Runners[r.Machine]; !ok || other.GPUs == 0 || other.Machine != "" {
			c.bad(at+".machine", "is %s, which is no runner with gpus and a machine of its own", quote(r.Machine))
		}
	}
	if c.given(at+".hostname") && r.Hostname == "" {
		c.bad(at+".hostname", "is empty; to remove HOSTNAME write %s", NoHost)
	}
	for _, flag := range slices.Sorted(maps.Keys(r.Flags)) {
		if !flagName.MatchString(flag) {
			c.bad(at+".flags."+flag, "flag %s is not allowed, write it without dashes in front", quote(flag))
		}
	}
}

// submit checks tasks and remembers their group.
func (c *checker) submit(at string, s *Submit) {
	if _, taken := c.groups[s.Group]; taken {
		c.bad(at+".group", "%s was submitted before", quote(s.Group))
	}
	c.groups[s.Group] = s
	if c.given(at+".group") && (!labelName.MatchString(s.Group) || len(s.Group) > maxGroup) {
		c.bad(at+".group", "is %s, allowed are up to %d small letters, digits and '-'", quote(s.Group), maxGroup)
	}
	c.between(at+".count", s.Count, 1, maxTasks)
	c.between(at+".gpus", s.GPUs, 0, api.MaxTaskGPUs)
	c.between(at+".maxAttempts", s.MaxAttempts, 1, api.MaxTaskAttempts)
	if c.given(at+".gpuMemory") && s.GPUs == 0 {
		c.bad(at+".gpuMemory", "is set, but the tasks ask for no gpus")
	}
	if c.given(at + ".timeout") {
		if d, err := time.ParseDuration(s.Timeout); err != nil || d <= 0 {
			c.bad(at+".timeout", "is %s, expected is a duration above zero, as 90s", quote(s.Timeout))
		}
	}
}

// between reports a number out of bounds, if the file gives it.
func (c *checker) between(at string, number, low, high int) {
	if c.given(at) && (number < low || number > high) {
		c.bad(at, "is %d, allowed is %d to %d", number, low, high)
	}
}

// need reports an ability that the file uses and does not ask for.
func (c *checker) need(at string, n Need) {
	if !slices.Contains(c.file.Needs, n) {
		c.bad(at, "needs a target with %s, add it to needs", n)
	}
}
