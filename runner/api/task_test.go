package api_test

import (
	"encoding/json"
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
`,
		"JSON": `{"id":"train-7","command":"python3","args":["train.py","--epochs","10"],"env":{"DATA":"/data"},
			"resources":{"gpus":2,"gpuMemory":42949672960},"timeout":"120m","maxAttempts":5}`,
		"with a line of three dashes": "---\nid: train-7\ncommand: python3\nargs: [train.py, --epochs, \"10\"]\nenv: {DATA: /data}\n" +
			"resources: {gpus: 2, gpuMemory: \"42949672960\"}\ntimeout: 2h0m0s\nmaxAttempts: 5\n",
	} {
		got, err := api.ParseTask([]byte(document))
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: error %v, task %s", name, err, cmp.Diff(want, got))
		}
	}
}

// badTasks are documents and a part of what is said about each.
var badTasks = map[string]string{
	``:                                                    `command: is "", allowed is the name or path of a program`,
	`command: [`:                                          `task document: `,
	`command: "true"` + "\ncomand: x":                     `unknown field "comand"`,
	`command: "true"` + "\nid: a\nid: b":                  `"id" already set`,
	`command: "true"` + "\nid: a b":                       `id: is "a b", allowed is 1 to 128 letters`,
	`command: "true"` + "\nid: -a":                        `id: is "-a"`,
	`command: "true"` + "\nid: ../a":                      `id: is "../a"`,
	`command: " "`:                                        `command: is " "`,
	`command: true`:                                       `command: is a bool, allowed is text; put it into quotes`,
	`{command: x, id: 7}`:                                 `id: is a number, allowed is text`,
	`{command: x, args: [yes]}`:                           `args: is a bool, allowed is text`,
	`{command: x, args: [0.10]}`:                          `args: is a number, allowed is text`,
	`{command: x, args: ["a\0"]}`:                         `args[0]: is "a\x00", allowed is text without NUL bytes`,
	`{command: x, env: {A: 1}}`:                           `env: is a number, allowed is text`,
	`{command: x, env: {1A: "1"}}`:                        `env: is "1A", allowed is names of letters`,
	`{command: x, env: {A=B: "1"}}`:                       `env: is "A=B"`,
	`{command: x, env: {A: "\0"}}`:                        `env.A: is`,
	`{command: x, env: {STUDIOML_X: ""}}`:                 `any name but those that the runner sets`,
	`{command: x, env: {CUDA_VISIBLE_DEVICES: ""}}`:       `any name but those that the runner sets`,
	`{command: x, resources: {gpus: -1}}`:                 `resources.gpus: is "-1", allowed is 0 to 64`,
	`{command: x, resources: {gpus: 65}}`:                 `resources.gpus: is "65"`,
	`{command: x, resources: {gpus: many}}`:               `resources.gpus`,
	`{command: x, resources: {gpus: 1.5}}`:                `resources.gpus`,
	`{command: x, resources: {gpuMemory: 1Gi}}`:           `resources.gpuMemory: is "1073741824", allowed is set only together with resources.gpus`,
	`{command: x, resources: {gpus: 1, gpuMemory: -1}}`:   `resources.gpuMemory: is "-1"`,
	`{command: x, resources: {gpus: 1, gpuMemory: lots}}`: `resources.gpuMemory: is "lots", allowed are bytes or an amount like 16Gi`,
	`{command: x, timeout: 90}`:                           `timeout: is "90", allowed is text with a unit, as 90s`,
	`{command: x, timeout: soon}`:                         `timeout: is "soon"`,
	`{command: x, timeout: -1s}`:                          `timeout: is "-1s", allowed is a positive duration`,
	`{command: x, maxAttempts: 101}`:                      `maxAttempts: is "101", allowed is 1 to 100`,
	`{command: x, maxAttempts: -1}`:                       `maxAttempts: is "-1"`,
	"{command: x}\n---\n{command: y}":                     `something follows the task`,
	"command: x\n...\ncommand: y":                         `something follows the task`,
	`{"command":"x"}` + "\n" + `{"command":"y"}`:          `something follows the task`,
	`{"command":"x"} trailing`:                            `something follows the task`,
	"{command: x}z\nresources:{gpus: 1}":                  `task document: `,
	`{command: x, env: {N: "8"}}`:                         `env: has a name that YAML reads as false`,
	`{"command":"a","Command":"b"}`:                       `unknown field "Command"`,
	`{"command":"a","command":"b"}`:                       `duplicate field "command"`,
	`{command: x, resources: {gpus: 1, gpuMemory: 100E}}`: `resources.gpuMemory: is "100E"`,
	`[{"command":"x"}]`:                                   `task document: `,
	`just a text`:                                         `task document: `,
	"\xff\xfe":                                            `command: is ""`, // nothing but the mark of a byte order
}

func TestBadTasks(t *testing.T) {
	for document, want := range badTasks {
		_, err := api.ParseTask([]byte(document))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", document, err, want)
		}
	}
	long := "command: " + strings.Repeat("x", api.MaxTaskBytes)
	if _, err := api.ParseTask([]byte(long)); err == nil || len(err.Error()) > 200 {
		t.Errorf("a document that is too long: %v", err)
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
