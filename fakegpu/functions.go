package fakegpu

import (
	_ "embed"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/agext/levenshtein"
)

// entries has an entry point for each function of the library.
//
//go:embed shim/entry.gen.c
var entries string

var entry = regexp.MustCompile(`(?m)^.* DECLDIR (nvml\w+)\(.*\{ (\w+)\(`)

// functions says of all that the library exports whether it is about a GPU.
var functions = sync.OnceValue(func() map[string]bool {
	about := make(map[string]bool)
	for _, m := range entry.FindAllStringSubmatch(entries, -1) {
		about[m[1]] = slices.Contains([]string{"GPU", "DEVICE", "STUB_DEVICE", "HANDLE"}, m[2])
	}
	return about
})

// checkFunction refuses a function that nobody can call, and for a GPU one that
// is about none.
func checkFunction(name string, ofGPU bool) error {
	about, ok := functions()[name]
	switch {
	case name == "*" || ok && (about || !ofGPU):
		return nil
	case ok:
		return fmt.Errorf("function is %s, which is about no GPU; name the machine instead of a GPU", name)
	}
	hint := ""
	if near := nearest(name, slices.Sorted(maps.Keys(functions()))); near != "" {
		hint = "; did you mean " + near + "?"
	}
	return fmt.Errorf("function is %.120q, must be the name of one of nvml.h, as nvmlDeviceGetName, or *%s", name, hint)
}

// nearest returns the one of some words that a mistyped one probably stands
// for, if there is one.
func nearest(word string, words []string) string {
	const most = 4 // edits; GetName is that far from nvmlGetName, and no more
	best, fewest := "", most+1
	if len(word) > 100 {
		return "" // that is no slip of the pen
	}
	for _, w := range words {
		for _, form := range []string{w, strings.TrimPrefix(w, "nvml"), strings.TrimPrefix(w, "nvmlDevice")} {
			if n := levenshtein.Distance(strings.ToLower(word), strings.ToLower(form), nil); n < fewest && n < len(form)/2 {
				best, fewest = w, n
			}
		}
	}
	return best
}
