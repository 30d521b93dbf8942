package fakegpu

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// entries has an entry point for each function of the library.
//
//go:embed shim/entry.gen.c
var entries string

var entry = regexp.MustCompile(`(?m)^.* DECLDIR (nvml\w+)\(`)

// functions lists what the library exports.
var functions = sync.OnceValue(func() []string {
	var names []string
	for _, m := range entry.FindAllStringSubmatch(entries, -1) {
		names = append(names, m[1])
	}
	return names
})

// checkFunction refuses a function that nobody can call.
func checkFunction(name string) error {
	if name == "*" || slices.Contains(functions(), name) {
		return nil
	}
	hint := ""
	if near := nearest(name, functions()); near != "" {
		hint = "; did you mean " + near + "?"
	}
	return fmt.Errorf("function is %.120q, want the name of one of nvml.h as nvmlDeviceGetName, or *%s", name, hint)
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
			if n := edits(strings.ToLower(word), strings.ToLower(form)); n < fewest && n < len(form)/2 {
				best, fewest = w, n
			}
		}
	}
	return best
}

// edits is how many letters must be put in, left out or replaced to make one
// word of another.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
