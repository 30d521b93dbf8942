package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	goyaml "go.yaml.in/yaml/v3"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Limits of a task document. They keep a hostile or mistaken document from
// hurting the queue or the runner; each has room for any honest task.
const (
	MaxTaskBytes     = 1 << 20 // the size of a ConfigMap, and of an AMQP message that brokers like
	MaxTaskGPUs      = 64
	MaxTaskAttempts  = 100
	DefaultAttempts  = 3
	MaxTaskPriority  = 10
	reservedEnvStart = "STUDIOML_"
)

// Environment variables that a task is started with, besides the variables of
// the runner and of the task document.
const (
	EnvTaskID      = "STUDIOML_TASK_ID"
	EnvTaskAttempt = "STUDIOML_TASK_ATTEMPT" // 1 at the first start
	EnvRunner      = "STUDIOML_RUNNER"       // name of the runner
	EnvDrainFile   = "STUDIOML_DRAIN_FILE"   // path of a file that exists while the runner drains
	EnvOutputs     = "STUDIOML_OUTPUT_DIR"   // what is in it at the end is kept with the result
	EnvCheckpoint  = "STUDIOML_CHECKPOINT_DIR"
	EnvCUDADevices = "CUDA_VISIBLE_DEVICES"
	EnvNVDevices   = "NVIDIA_VISIBLE_DEVICES"
)

// Task is one unit of work, as submitted.
type Task struct {
	// ID names the task in the queue, the results and the logs. It is made up
	// at submit when it is missing.
	ID string `json:"id"`
	// Command is the program to run, looked up in PATH. It is no shell line.
	Command string   `json:"command"`
	Args    []string `json:"args,omitempty"`
	// Env is added to the runner's own environment.
	Env       map[string]string `json:"env,omitempty"`
	Resources Resources         `json:"resources,omitzero"`
	// Timeout ends an attempt that takes longer, as "90s" or "2h"; none = no limit.
	Timeout Duration `json:"timeout,omitzero"`
	// MaxAttempts is how often the task may fail before it goes to the
	// dead-letter place. 0 means DefaultAttempts.
	MaxAttempts int `json:"maxAttempts,omitempty"`
	// Priority puts the task before those with a lower one, -10 to 10.
	Priority int `json:"priority,omitempty"`
	// Expires is a time after which the task is not started any more.
	Expires Time `json:"expires,omitzero"`
	// Workdir is the directory to run in; none = an empty one that is removed afterwards.
	Workdir string `json:"workdir,omitempty"`
	// Format is set by submitters where the document has fields that runners of before
	// do not know, to the first TaskFormat that knows them all. 0 means 1.
	Format int `json:"format,omitempty"`
}

// TaskFormat is the newest format of task documents that is known here.
const TaskFormat = 1

// ErrNewer says that only newer runners understand a document. They shall have it.
var ErrNewer = errors.New("is for a newer release")

// Resources is what a task needs of the machine.
type Resources struct {
	// GPUs is the number of whole GPUs.
	GPUs int `json:"gpus,omitempty"`
	// GPUMemory is the least memory that each of them must have, in bytes or
	// with a unit, as 16Gi.
	GPUMemory Bytes `json:"gpuMemory,omitzero"`
}

// Attempts returns how many attempts the task has.
func (t *Task) Attempts() int {
	if t.MaxAttempts == 0 {
		return DefaultAttempts
	}
	return t.MaxAttempts
}

// taskID allows what is safe as a file name, a label and a log field.
var taskID = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$`)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// ParseTask reads a task document, JSON or YAML, and validates it. Unknown
// fields are errors: a misspelled "timeout" must not become an endless task.
func ParseTask(document []byte) (*Task, error) {
	if len(document) > MaxTaskBytes {
		return nil, fmt.Errorf("task document has %d bytes; must be at most %d", len(document), MaxTaskBytes)
	}
	text, err := asJSON(document)
	if err != nil {
		return nil, fmt.Errorf("task document: %w", err)
	}
	var newer struct{ Format int }
	if json.Unmarshal(text, &newer) == nil && newer.Format > TaskFormat {
		return nil, fmt.Errorf("task document: format %d %w; this one knows formats up to %d", newer.Format, ErrNewer, TaskFormat)
	}
	var value any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := errors.Join(decoder.Decode(&value), shape(value)); err != nil {
		return nil, fmt.Errorf("task document: %w", err)
	}
	var t Task
	strict, err := kjson.UnmarshalStrict(text, &t)
	switch {
	case err != nil:
		return nil, fmt.Errorf("task document: %w", tidyYAMLError(err))
	case len(strict) > 0:
		return nil, fmt.Errorf("task document: %w", tidyYAMLError(errors.Join(strict...)))
	}
	return &t, t.Validate()
}

// asJSON returns the document as JSON, which does not take yes, 010 or 1.0 for a
// text: YAML reads them as something else than what was typed. A document that
// is JSON already is left alone, for YAML does not know all of it.
func asJSON(document []byte) ([]byte, error) {
	if json.Valid(document) {
		return document, nil
	}
	if err := single(document); err != nil {
		return nil, err
	}
	text, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return nil, tidyYAMLError(err)
	}
	var names struct {
		Env map[string]any `json:"env"`
	}
	if json.Unmarshal(text, &names) == nil { // else the error is reported later
		for _, name := range []string{"true", "false"} {
			if _, ok := names.Env[name]; ok {
				return nil, fmt.Errorf("env: has a name that YAML reads as %s, as N, Y, on or off; put it into quotes", name)
			}
		}
	}
	return text, nil
}

// single returns an error if anything follows the first document: it would be
// lost.
func single(document []byte) error {
	var node goyaml.Node
	decoder := goyaml.NewDecoder(bytes.NewReader(document))
	switch err := decoder.Decode(&node); {
	case err == io.EOF:
		return nil // there is nothing, which is reported where it is read
	case err != nil:
		return err
	case expand(&node, MaxTaskBytes, false) < 0:
		return fmt.Errorf("has more than %d bytes once its aliases (*name) are written out", MaxTaskBytes)
	}
	if err := decoder.Decode(&node); err != io.EOF {
		return errors.New("something follows the task; give each task a document of its own, with a line --- between them")
	}
	return nil
}

// expand returns what is left of a number of bytes when the aliases below a node
// are written out: a few kilobytes of them can stand for gigabytes.
func expand(n *goyaml.Node, left int, aliased bool) int {
	if aliased {
		const each = 16 // so that an alias of itself does not go deep
		left -= each + len(n.Value)
	}
	if n.Kind == goyaml.AliasNode && left >= 0 {
		left = expand(n.Alias, left, true)
	}
	for i := 0; i < len(n.Content) && left >= 0; i++ {
		left = expand(n.Content[i], left, aliased)
	}
	return left
}

// Validate returns all that is wrong with the task, each problem with its
// field, its value and what is allowed. An empty ID is left to the caller.
func (t *Task) Validate() error {
	var problems []error
	bad := func(field, value, allowed string) {
		problems = append(problems, fmt.Errorf("%s: is %s; must be %s", brief(field), Excerpt(value), allowed))
	}
	if t.ID != "" && !taskID.MatchString(t.ID) {
		bad("id", t.ID, "1 to 128 letters, digits, '.', '_' and '-', letter or digit at both ends")
	}
	if strings.TrimSpace(t.Command) == "" || !isText(t.Command) {
		bad("command", t.Command, "the name or path of a program")
	}
	for i, a := range t.Args {
		if !isText(a) {
			bad(fmt.Sprintf("args[%d]", i), a, "UTF-8 text without NUL bytes")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Env)) {
		value := t.Env[name]
		switch {
		case !envName.MatchString(name):
			bad("env", name, "a name of letters, digits and '_'")
		case strings.HasPrefix(name, reservedEnvStart) || name == EnvCUDADevices || name == EnvNVDevices:
			bad("env", name, "any name but those that the runner sets: "+reservedEnvStart+"*, "+EnvCUDADevices+", "+EnvNVDevices)
		case !isText(value):
			bad("env."+name, value, "UTF-8 text without NUL bytes")
		}
	}
	if g := t.Resources.GPUs; g < 0 || g > MaxTaskGPUs {
		bad("resources.gpus", fmt.Sprint(g), fmt.Sprintf("0 to %d", MaxTaskGPUs))
	}
	if t.Resources.GPUMemory > 0 && t.Resources.GPUs == 0 {
		bad("resources.gpuMemory", fmt.Sprint(t.Resources.GPUMemory), "set only together with resources.gpus")
	}
	if t.Timeout < 0 {
		bad("timeout", time.Duration(t.Timeout).String(), "a positive duration, as 90s")
	}
	if t.MaxAttempts < 0 || t.MaxAttempts > MaxTaskAttempts {
		bad("maxAttempts", fmt.Sprint(t.MaxAttempts), fmt.Sprintf("1 to %d", MaxTaskAttempts))
	}
	if t.Priority < -MaxTaskPriority || t.Priority > MaxTaskPriority {
		bad("priority", fmt.Sprint(t.Priority), fmt.Sprintf("%d to %d", -MaxTaskPriority, MaxTaskPriority))
	}
	if t.Workdir != "" && (!filepath.IsAbs(t.Workdir) || !isText(t.Workdir)) {
		bad("workdir", t.Workdir, "the absolute path of a directory")
	}
	return errors.Join(problems...)
}

// isText says whether a document keeps a text as it is: JSON makes another of bytes that
// are not UTF-8.
func isText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// tidyYAMLError drops the decoder's internals from its message; what is left
// names the field.
func tidyYAMLError(err error) error {
	text := strings.Join(strings.Fields(err.Error()), " ") // on one line
	for _, noise := range []string{"error unmarshaling JSON: while decoding JSON: ", "error converting YAML to JSON: ", "json: "} {
		text = strings.ReplaceAll(text, noise, "")
	}
	const longest = 250
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return errors.New(text)
}
