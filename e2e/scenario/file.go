// Package scenario is the format of the files under scenarios/: what one file
// says, how it is read, expanded and checked. It knows no cluster and no
// target; the engine runs what this package returns.
package scenario

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/studioml/studio-go-runner/e2e/catalogue"
	"github.com/studioml/studio-go-runner/runner/api"
)

// File is one scenario, or a family of them when it has a matrix.
type File struct {
	// Name is what the spec is called. In a family it says what differs, as
	// "global ${global}, node ${node}".
	Name string `json:"name" jsonschema:"title=one line of visible text,pattern=^( *[^\\p{C}\\p{Z}])+ *$,maxLength=120"`
	// Rows are the rows of the catalogue (see scenarios/README.md) that it shows.
	Rows []catalogue.Row `json:"rows"`
	// About says in a sentence or two why the scenario matters.
	About string `json:"about,omitempty"`
	// Targets are the kinds of cluster that it is meant for.
	Targets []Target `json:"targets"`
	// Needs are the abilities that a target must have for it.
	Needs []Need `json:"needs,omitempty"`
	// Labels are extra labels to select it by, as slow.
	Labels []Name `json:"labels,omitempty"`
	// Timeout bounds the whole scenario.
	Timeout Duration `json:"timeout,omitempty" jsonschema:"default=2m"`

	// Matrix makes a family: one scenario for each combination of the values.
	// ${name} stands for the value everywhere else in the file.
	Matrix Matrix `json:"matrix,omitempty"`
	// Exclude drops the combinations of the matrix that match one of these in
	// every variable named.
	Exclude []Combination `json:"exclude,omitempty"`
	// Include adds combinations, each with a value for every variable that the
	// file uses. Without a matrix it is a table of cases.
	Include []Combination `json:"include,omitempty"`
	// Predict gives names to what the rules R1 to R3 say about a pair of maps at
	// the start of a runner, computed by an oracle that shares no code with it:
	// ${name.effective}, ${name.phase} (of an idle runner), ${name.source} and
	// ${name.shadowed} ("none" if there is none).
	Predict map[string]Pair `json:"predict,omitempty"`

	// APIServerFlags are further flags of the scenario's own API server, without
	// dashes, as feature-gates: WatchList=false.
	APIServerFlags map[Flag]string `json:"apiserverFlags,omitempty" need:"apiserver"`
	// Permissions is what the runners may do at start.
	Permissions Permissions `json:"permissions,omitempty" jsonschema:"default=shipped"`
	// Runners by name. They are started after maps and tasks, unless delayed.
	Runners map[string]Runner `json:"runners"`
	// Maps are the ConfigMaps that exist before any runner starts, by subject:
	// global, or the name of a runner for its node map.
	Maps map[MapName]Map `json:"maps,omitempty"`
	// Tasks are submitted before any runner starts.
	Tasks []Submit `json:"tasks,omitempty"`
	// Steps happen in order.
	Steps []Step `json:"steps"`
}

// Matrix is the variables of a family and the values that each takes. Which varies
// most slowly is the order of the file.
type Matrix map[string][]any

// Combination gives values to variables of a matrix: texts, numbers and truth values,
// which keep their type where the variable is all of a value.
type Combination map[string]any

// Pair is the two values that a prediction is made for, written like Map's
// scalar form.
type Pair struct {
	// Global is the value of the global map.
	Global string `json:"global"`
	// Node is the value of the node map.
	Node string `json:"node"`
}

// Map is a ConfigMap. In a file it may be a plain text: "absent" is no map at
// all, "keyless" a map without STATE, anything else, the empty text too, the
// value of STATE.
type Map struct {
	// Absent is no map at all; in apply it deletes the map if there is one.
	Absent bool `json:"absent,omitempty"`
	// Data is sent as it is.
	Data map[string]string `json:"data,omitempty"`
	// BinaryData is sent as it is, which is base64.
	BinaryData map[string][]byte `json:"binaryData,omitempty"`
	// Finalizers keep a deleted map there until they are taken away.
	Finalizers []string `json:"finalizers,omitempty"`
	// Annotations are set on the map.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Immutable maps can only be deleted and created anew.
	Immutable bool `json:"immutable,omitempty"`
	// Labels are set on the map.
	Labels map[string]string `json:"labels,omitempty"`
	// Elsewhere puts the map into another namespace than the runners'.
	Elsewhere bool `json:"elsewhere,omitempty"`
}

// Submit puts tasks into the queue.
type Submit struct {
	// Group names the tasks: <group>-1, <group>-2 and so on. A group is
	// submitted once.
	Group Name `json:"group" jsonschema:"maxLength=40"`
	// Count is how many there are.
	Count int `json:"count,omitempty" jsonschema:"minimum=1,maximum=10000,default=1"`
	// Hold keeps each task running until the group is released.
	Hold bool `json:"hold,omitempty"`
	// Fail makes each task exit with status 1 at its end.
	Fail bool `json:"fail,omitempty"`
	// IgnoreTerm makes each task deaf to SIGTERM.
	IgnoreTerm bool `json:"ignoreTerm,omitempty"`
	// Lasts is how long each task takes, or each of its steps, after it was released
	// if it is held.
	Lasts Duration `json:"lasts,omitempty"`
	// Steps is to how many each task counts. It saves each number in its checkpoint,
	// and leaves with exit status 75 when it is shown a drain.
	Steps int `json:"steps,omitempty" jsonschema:"minimum=1,maximum=1000"`
	// Again submits the group anew each time so much time has passed, with numbers
	// that go on, until the last step is done.
	Again Duration `json:"again,omitempty"`
	// Waiting is how many tasks may be in the queue, unclaimed, for the group to be
	// submitted again; without it, any number.
	Waiting int `json:"waiting,omitempty" jsonschema:"minimum=1,maximum=10000" with:"again"`
	// GPUs is the number of whole GPUs that each task asks for.
	GPUs int `json:"gpus,omitempty" jsonschema:"minimum=0,maximum=64"`
	// GPUMemory is the memory that each of them must have, as 16Gi.
	GPUMemory api.Bytes `json:"gpuMemory,omitempty" with:"gpus"`
	// MaxAttempts is that of the task document.
	MaxAttempts int `json:"maxAttempts,omitempty" jsonschema:"minimum=1,maximum=100"`
	// Timeout is that of the task document.
	Timeout Duration `json:"timeout,omitempty"`
	// Priority is that of the task document.
	Priority int `json:"priority,omitempty" jsonschema:"minimum=-10,maximum=10"`
	// Expires is when the tasks expire, from the submit on.
	Expires Duration `json:"expires,omitempty"`
}

// Runner is one runner process or pod.
type Runner struct {
	// Delayed runners are started by a start step.
	Delayed bool `json:"delayed,omitempty"`
	// Older has it be of a release of before, as in a rolling upgrade.
	Older bool `json:"older,omitempty" need:"older-release"`
	// GPUs is the number of GPUs it has; 0 is a machine without NVML.
	GPUs int `json:"gpus,omitempty" jsonschema:"minimum=0,maximum=64" need:"gpus"`
	// Profile is the GPU model where the target can choose it.
	Profile string `json:"profile,omitempty" jsonschema:"default=T4" with:"gpus"`
	// Machine is the runner whose machine, with its fake GPUs, this one runs on
	// as well; the default is a machine of its own.
	Machine string `json:"machine,omitempty" need:"fake-gpus"`
	// Visible is its NVIDIA_VISIBLE_DEVICES.
	Visible string `json:"visible,omitempty" with:"gpus"`
	// Slots is how many tasks it runs at the same time.
	Slots int `json:"slots,omitempty" jsonschema:"minimum=1,maximum=256,default=4"`
	// Hostname overrides HOSTNAME; "unset" removes it.
	Hostname string `json:"hostname,omitempty" jsonschema:"pattern=\\S"`
	// Flags are further flags of runner serve, without dashes, as settle: 2s.
	Flags map[Flag]string `json:"flags,omitempty"`
}

// maxTimeout is far more than any row needs, and little enough that a slip of the
// pen does not keep a machine busy for hours.
const maxTimeout = Duration(time.Hour)

// Check wants a head that reports can show, runners that are started, and something
// that can fail.
func (f File) Check(c *Checker, _ string) {
	if len(f.Steps) > 0 && !c.Asserts {
		c.Bad("steps", "cannot fail: no step says what must be so; add an await, expect or never")
	}
	if f.Timeout > maxTimeout {
		c.Bad("timeout", "is %s; must be at most %s", f.Timeout, maxTimeout)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Runners)) {
		at := "runners." + name
		if slices.Contains([]string{Global, Tasks, Runners}, name) {
			c.Bad(at, "a runner cannot be called %s, which is a subject of its own", name)
		}
		for _, why := range validation.IsDNS1123Label(name) {
			c.Bad(at, "cannot be a host name: %s", why)
		}
		r := f.Runners[name]
		for _, flag := range []Flag{"name", "listen", "kubeconfig", "namespace", "spool", "queue", "termination-log"} {
			if _, set := r.Flags[flag]; set {
				c.Bad(at+".flags."+string(flag), "is what the harness knows the runner by; leave it out")
			}
		}
		if other, ok := f.Runners[r.Machine]; r.Machine != "" && (!ok || other.GPUs == 0 || other.Machine != "") {
			c.Bad(at+".machine", "is %s, which is no runner with gpus and a machine of its own", quote(r.Machine))
		}
		if r.Delayed && !c.done["start "+name] {
			c.Bad(at+".delayed", "is true, but no step starts the runner")
		}
	}
}

// Check wants a map that the API server can have.
func (m Map) Check(c *Checker, at string) {
	if m.Absent && !reflect.DeepEqual(m, Map{Absent: true}) {
		c.Bad(at, "is absent and has other fields too")
	}
	for _, key := range slices.Sorted(maps.Keys(m.Data)) {
		for _, why := range validation.IsConfigMapKey(key) {
			c.Bad(at+".data."+key, "cannot be a key: %s", why)
		}
		if _, both := m.BinaryData[key]; both {
			c.Bad(at+".binaryData."+key, "is in data too")
		}
	}
}

// Check lets later steps name the group.
func (s Submit) Check(c *Checker, at string) {
	if _, taken := c.Groups[Group(s.Group)]; taken {
		c.Bad(at+".group", "%s was submitted before", quote(string(s.Group)))
	}
	c.Groups[Group(s.Group)] = &s
}
