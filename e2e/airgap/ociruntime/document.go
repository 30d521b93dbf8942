package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// capability is the one that is removed.
const capability = "CAP_SYS_RESOURCE"

// globalValues are runc's options before the command that take a value.
var globalValues = []string{"log", "log-format", "root", "criu", "rootless"}

// documentOf returns the JSON file that says which capabilities the process of a
// runc command gets, or "" if the command starts none.
func documentOf(args []string) string {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		name := strings.TrimLeft(args[0], "-") // with = in it, the value is there as well
		args = args[1:]
		if slices.Contains(globalValues, name) && len(args) > 0 {
			args = args[1:]
		}
	}
	if len(args) == 0 {
		return ""
	}
	switch args[0] {
	case "create", "run", "restore":
		return filepath.Join(option(args[1:], "bundle", "b"), "config.json")
	case "exec":
		return option(args[1:], "process", "p")
	}
	return ""
}

// option returns the value of the option with one of the names.
func option(args []string, names ...string) string {
	for i, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			continue
		}
		name, value, inline := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !slices.Contains(names, name) {
			continue
		}
		if !inline && i+1 < len(args) {
			value = args[i+1]
		}
		return value
	}
	return ""
}

// dropCapability removes the capability from a bundle's configuration, which has
// a process, or from a document that is a process.
func dropCapability(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var document map[string]any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // limits are larger than what a float64 holds
	if err := decoder.Decode(&document); err != nil {
		return err
	}
	process, ok := document["process"].(map[string]any)
	if !ok {
		process = document
	}
	sets, _ := process["capabilities"].(map[string]any)
	for set, names := range sets {
		if list, ok := names.([]any); ok {
			sets[set] = slices.DeleteFunc(list, func(name any) bool { return name == capability })
		}
	}
	if data, err = json.Marshal(document); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600) // the file is there: its mode stays
}
