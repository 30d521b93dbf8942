package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
)

func TestParseTask(t *testing.T) {
	want := &api.Task{
		ID: "train-7", Command: "python3", Args: []string{"train.py", "--epochs", "10"}, Env: map[string]string{"DATA": "/data"},
		Resources: api.Resources{GPUs: 2, GPUMemory: 40 << 30}, Timeout: api.Duration(2 * time.Hour), MaxAttempts: 5,
		Priority: -3, Expires: api.Time{Time: time.Date(2026, 12, 31, 23, 59, 0, 0, time.UTC)}, Workdir: "/data",
	}
	for name, document := range map[string]string{
		"YAML": `
id: train-7
command: python3
args: [train.py, --epochs, "10"]
env: {DATA: /data}
resources: {gpus: 2, gpuMemory: 40Gi}
timeout: 2h
maxAttempts: 5
priority: -3
expires: 2026-12-31T23:59:00Z
workdir: /data
`,
		"JSON": `{"id":"train-7","command":"python3","args":["train.py","--epochs","10"],"env":{"DATA":"/data"},
			"resources":{"gpus":2,"gpuMemory":42949672960},"timeout":"120m","maxAttempts":5,
			"priority":-3,"expires":"2026-12-31T23:59:00Z","workdir":"/data"}`,
		"with a line of three dashes": "---\nid: train-7\ncommand: python3\nargs: [train.py, --epochs, \"10\"]\nenv: {DATA: /data}\n" +
			"resources: {gpus: 2, gpuMemory: \"42949672960\"}\ntimeout: 2h0m0s\nmaxAttempts: 5\npriority: -3\nexpires: \"2026-12-31T23:59:00Z\"\nworkdir: /data\n",
	} {
		got, err := api.ParseTask([]byte(document))
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: error %v, task %s", name, err, cmp.Diff(want, got))
		}
	}
}

// badTasks are documents and a part of what is said about each.
var badTasks = map[string]string{
	``:                                                      `command: is ""; must be the name or path of a program`,
	`command: [`:                                            `task document: `,
	`command: "true"` + "\ncomand: x":                       `unknown field "comand"; did you mean command?`,
	`command: "true"` + "\nid: a\nid: b":                    `"id" already set`,
	`command: "true"` + "\nid: a b":                         `id: is "a b"; must be 1 to 128 letters`,
	`command: "true"` + "\nid: -a":                          `id: is "-a"`,
	`command: "true"` + "\nid: ../a":                        `id: is "../a"`,
	`command: " "`:                                          `command: is " "`,
	`command: true`:                                         `command: is true; must be text; put it into quotes`,
	`{command: x, id: 7}`:                                   `id: is 7; must be text; put it into quotes`,
	`{command: x, args: [yes]}`:                             `args[0]: is true; must be text; put it into quotes`,
	`{command: x, args: [0.10]}`:                            `args[0]: is 0.1; must be text`,
	`{command: x, args: ["a\0"]}`:                           `args[0]: is "a\x00"; must be UTF-8 text without NUL bytes`,
	`{command: x, env: {A: 1}}`:                             `env.A: is 1; must be text; put it into quotes`,
	`{command: x, env: {1A: "1"}}`:                          `env: is "1A"; must be a name of letters`,
	`{command: x, env: {A=B: "1"}}`:                         `env: is "A=B"`,
	`{command: x, env: {A: "\0"}}`:                          `env.A: is`,
	`{command: x, env: {STUDIOML_X: ""}}`:                   `any name but those that the runner sets`,
	`{command: x, env: {CUDA_VISIBLE_DEVICES: ""}}`:         `any name but those that the runner sets`,
	`{command: x, resources: {gpus: -1}}`:                   `resources.gpus: is "-1"; must be 0 to 64`,
	`{command: x, resources: {gpus: 65}}`:                   `resources.gpus: is "65"`,
	`{command: x, resources: {gpus: many}}`:                 `resources.gpus: is "many"; must be a whole number`,
	`{command: x, resources: {gpus: 0.5}}`:                  `resources.gpus: is 0.5; must be a whole number`,
	`{command: x, resources: {gpus: 1e30}}`:                 `resources.gpus: is 1e+30; must be a whole number`,
	`{command: x, resources: {gpus: 99999999999999999999}}`: `resources.gpus`,
	`{command: x, resources: 2}`:                            `resources: is 2; must be the fields gpus, gpuMemory, as {gpus: 1}`,
	`{command: x, resources: {gpu: 2}}`:                     `unknown field "resources.gpu"; did you mean gpus?`,
	`{command: x, maxattempts: 2}`:                          `unknown field "maxattempts"; did you mean maxAttempts?`,
	`{command: x, zzz: 2}`:                                  `unknown field "zzz"`,
	`{command: x, maxAttempts: "2"}`:                        `maxAttempts: is "2"; must be a whole number`,
	`{command: x, args: hi there}`:                          `args: is "hi there"; must be a list of texts, as [a, b]`,
	`{command: x, args: [[a]]}`:                             `args[0]: is a list; must be one text`,
	`{command: [sh, -c, x]}`:                                `command: is a list; must be one text; what follows the first word goes into args`,
	`{command: {sh: x}}`:                                    `command: is a set of fields; must be text`,
	`{command: x, env: {LR: 0.1}}`:                          `env.LR: is 0.1; must be text; put it into quotes`,
	`{command: x, env: [A=b]}`:                              `env: is a list; must be names with texts, as {NAME: value}`,
	`{command: x, timeout: [1]}`:                            `timeout: is "[1]"; must be text with a unit`,
	`{command: x, resources: {gpuMemory: 1Gi}}`:             `resources.gpuMemory: is "1073741824"; must be set only together with resources.gpus`,
	`{command: x, resources: {gpus: 1, gpuMemory: -1}}`:     `resources.gpuMemory: is "-1"`,
	`{command: x, resources: {gpus: 1, gpuMemory: lots}}`:   `resources.gpuMemory: is "lots"; must be bytes or an amount like 16Gi`,
	`{command: x, timeout: 90}`:                             `timeout: is "90"; must be text with a unit, as 90s`,
	`{command: x, timeout: soon}`:                           `timeout: is "soon"`,
	`{command: x, timeout: -1s}`:                            `timeout: is "-1s"; must be a positive duration`,
	`{command: x, maxAttempts: 101}`:                        `maxAttempts: is "101"; must be 1 to 100`,
	`{command: x, maxAttempts: -1}`:                         `maxAttempts: is "-1"`,
	`{command: x, priority: 11}`:                            `priority: is "11"; must be -10 to 10`,
	`{command: x, priority: -11}`:                           `priority: is "-11"`,
	`{command: x, expires: tomorrow}`:                       `expires: is "tomorrow"; must be a time with its zone, as 2026-12-31T23:59:00Z`,
	`{command: x, expires: 90}`:                             `expires: is "90"; must be a time`,
	`{command: x, workdir: here}`:                           `workdir: is "here"; must be the absolute path of a directory`,
	"{command: x}\n---\n{command: y}":                       `something follows the task`,
	"command: x\n...\ncommand: y":                           `something follows the task`,
	`{"command":"x"}` + "\n" + `{"command":"y"}`:            `something follows the task`,
	`{"command":"x"} trailing`:                              `something follows the task`,
	"{command: x}z\nresources:{gpus: 1}":                    `task document: `,
	`{command: x, env: {N: "8"}}`:                           `env: has a name that YAML reads as false`,
	`{"command":"a","Command":"b"}`:                         `unknown field "Command"; did you mean command?`,
	`{"command":"a","command":"b"}`:                         `duplicate field "command"`,
	`{command: x, resources: {gpus: 1, gpuMemory: 100E}}`:   `resources.gpuMemory: is "100E"`,
	`{command: x, priority: high}`:                          `priority: is "high"; must be a whole number`,
	`{command: x, workdir: "/a\0"}`:                         `workdir: is "/a\x00"`,
	`[{"command":"x"}]`:                                     `task document: is a list; must be one task with the fields id, command`,
	`just a text`:                                           `task document: is "just a text"; must be one task`,
	"\xff\xfe":                                              `command: is ""`, // nothing but the mark of a byte order
}

func TestBadTasks(t *testing.T) {
	for document, want := range badTasks {
		_, err := api.ParseTask([]byte(document))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", document, err, want)
		}
	}
	// A command line can have them, and JSON would make other bytes of them.
	bad := api.Task{Command: "\xff", Args: []string{"\xff"}, Env: map[string]string{"A": "\xff"}, Workdir: "/\xff"}
	if got := strings.Count(fmt.Sprint(bad.Validate()), `\xff`); got != 4 {
		t.Errorf("of 4 fields that are not UTF-8, %d are refused: %v", got, bad.Validate())
	}
	for document := range badTasks {
		_, err := api.ParseTask([]byte(document))
		for _, line := range strings.Split(err.Error(), "\n") {
			if len(line) > 300 {
				t.Errorf("%q: a line of %d bytes: %s", document, len(line), line)
			}
		}
	}
	for _, long := range []string{
		`{command: x, env: {"` + strings.Repeat(`\0`, 500) + `": a}}`, `{command: x, env: {` + strings.Repeat("a", 500) + `: 1}}`,
		`{command: x, id: "` + strings.Repeat(`\0`, 500) + `"}`, `{command: x, resources: {` + strings.Repeat("b", 500) + `: 1}}`,
		`{command: x, maxAttempts: ` + strings.Repeat("9", 500) + `}`, `{command: x, ` + strings.Repeat("a: 1, ", 500) + `}`,
		`{command: x, timeout: "` + strings.Repeat(`\0`, 500) + `"}`, strings.Repeat("a\nb: c: d\n", 500), "{command: x, args: [" + strings.Repeat("[", 9000),
	} {
		if _, err := api.ParseTask([]byte(long)); err == nil || len(err.Error()) > 300 {
			t.Errorf("%.80q: %v", long, err)
		}
	}
	long := "command: " + strings.Repeat("x", api.MaxTaskBytes)
	if _, err := api.ParseTask([]byte(long)); err == nil || len(err.Error()) > 200 {
		t.Errorf("a document that is too long: %v", err)
	}
}

// A few kilobytes of aliases can stand for gigabytes.
func TestAliasesAreRefusedEarly(t *testing.T) {
	for name, document := range map[string]string{
		"a long one, often": `{command: &a "` + strings.Repeat("x", 900_000) + `", args: [` + strings.Repeat("*a, ", 300) + `]}`,
		"of aliases":        "command: x\nargs: [&a [x,x,x,x,x,x,x,x], &b [*a,*a,*a,*a,*a,*a,*a,*a], &c [*b,*b,*b,*b,*b,*b,*b,*b], &d [*c,*c,*c,*c,*c,*c,*c,*c], &e [*d,*d,*d,*d,*d,*d,*d,*d], &f [*e,*e,*e,*e,*e,*e,*e,*e], [*f,*f,*f,*f,*f,*f,*f,*f]]",
		"of itself":         "command: x\nargs: &a [*a]",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := api.ParseTask([]byte(document))
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), "has more than 1048576 bytes once its aliases") {
			t.Errorf("%s: %.300v", name, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
			t.Errorf("%s took %d MiB", name, took>>20)
		}
	}
	if _, err := api.ParseTask([]byte(`{command: x, env: {A: &a text, B: *a}}`)); err != nil {
		t.Errorf("an honest alias: %v", err)
	}
}

// All that is wrong is said at once, but for what cannot be read at all.
func TestAllProblemsAtOnce(t *testing.T) {
	_, err := api.ParseTask([]byte(`{id: a b, command: "", resources: {gpus: 99}, maxAttempts: 1000}`))
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("error %v, want four lines", err)
	}
}

func TestQuantities(t *testing.T) {
	for text, want := range map[string]api.Bytes{`1`: 1, `"16Gi"`: 16 << 30, `"1G"`: 1e9, `0`: 0} {
		var b api.Bytes
		if err := json.Unmarshal([]byte(text), &b); err != nil || b != want {
			t.Errorf("%s: %d, %v, want %d", text, b, err, want)
		}
	}
}

// What can be read can be written and read again, and is the same.
func FuzzParseTask(f *testing.F) {
	for document := range badTasks {
		f.Add([]byte(document))
	}
	f.Add([]byte(`{id: a, command: x, args: [b, "1"], env: {A: b}, resources: {gpus: 1, gpuMemory: 16Gi}, timeout: 90s, maxAttempts: 2}`))
	f.Add([]byte(`{"command":"x","args":["\u007f","\ud83d\ude00","a\/b"]}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		task, err := api.ParseTask(document)
		if err != nil {
			return
		}
		text, err := json.Marshal(task)
		if err != nil {
			t.Fatalf("cannot be written: %v", err)
		}
		again, err := api.ParseTask(text)
		if err != nil {
			t.Fatalf("cannot be read again: %v\n%s", err, text)
		}
		if second, err := json.Marshal(again); err != nil || string(second) != string(text) {
			t.Errorf("is another task when read again: %v\n%s\n%s", err, text, second)
		}
	})
}

// A document of a newer release is told from one with a field that nobody knows.
func TestParseNewerTask(t *testing.T) {
	for document, want := range map[string]bool{
		`{"id": "a", "command": "true", "format": 2, "later": true}`: true,
		`{"id": "a", "command": "true", "format": 1, "later": true}`: false,
		`{"id": "a", "command": "true", "later": true}`:              false,
	} {
		_, err := api.ParseTask([]byte(document))
		if err == nil || errors.Is(err, api.ErrNewer) != want {
			t.Errorf("%s: %v, want an error of a newer release: %v", document, err, want)
		}
	}
	if _, err := api.ParseTask([]byte(`{"id": "a", "command": "true", "format": 1}`)); err != nil {
		t.Error(err)
	}
}
