package fakegpu_test

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// unsourced tells what of a profile has no public source. The comment at its
// head has the name of the card and then the sources: for each the keys that are
// from it, or patterns of keys as path.Match has them, a colon, and what it is.
func unsourced(profile string) (wrong []string) {
	lines := strings.Split(strings.TrimSpace(profile), "\n")
	head := slices.IndexFunc(lines, func(line string) bool { return !strings.HasPrefix(line, "#") })
	var patterns []string
	// The first line names the card; a line that is indented goes on with the one before.
	for _, source := range strings.Split(strings.ReplaceAll(strings.Join(lines[1:head], "\n"), "\n#   ", " "), "\n") {
		keys, from, ok := strings.Cut(strings.TrimPrefix(source, "# "), ": ")
		if !ok || from == "" {
			wrong = append(wrong, "not KEYS: SOURCE: "+source)
		}
		patterns = append(patterns, strings.Split(keys, ", ")...)
	}
	used := make([]int, len(patterns))
	for _, line := range lines[head:] {
		key, _, _ := strings.Cut(line, ":")
		n := 0
		for i, pattern := range patterns {
			if ok, err := path.Match(pattern, key); ok && err == nil {
				used[i]++
				n++
			}
		}
		if n != 1 {
			wrong = append(wrong, key)
		}
	}
	for i, pattern := range patterns {
		if used[i] == 0 {
			wrong = append(wrong, "no figure is a "+pattern)
		}
	}
	for _, doubt := range []string{"plausible", "guess", "unknown"} {
		if strings.Contains(strings.ToLower(profile), doubt) {
			wrong = append(wrong, doubt)
		}
	}
	return wrong
}

func TestEveryFigureHasItsSource(t *testing.T) {
	for _, name := range fakegpu.Profiles() {
		profile, err := os.ReadFile(filepath.Join("profiles", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if wrong := unsourced(string(profile)); len(wrong) > 0 {
			t.Errorf("%s has no one source for: %s", name, strings.Join(wrong, "; "))
		}
	}
}

func TestUnsourcedFiguresAreFound(t *testing.T) {
	const good = "# X.\n# name, power_*: a data sheet\n#   of 2020.\n# sms: a paper.\nname: X\npower_max: 5\nsms: 7 # of 8\n"
	for _, test := range []struct{ what, profile, want string }{
		{"all have one", good, ""},
		{"a figure without", good + "cores: 9\n", "cores"},
		{"a figure with two", strings.Replace(good, "# sms:", "# sms, name:", 1), "name"},
		{"a source of nothing", strings.Replace(good, "# sms:", "# sms, cores:", 1), "no figure is a cores"},
		{"keys without a source", strings.Replace(good, "# sms: a paper.", "# sms", 1), "not KEYS: SOURCE: # sms"},
		{"a doubt", strings.Replace(good, "of 8", "Plausible", 1), "plausible"},
	} {
		if got := strings.Join(unsourced(test.profile), "; "); got != test.want {
			t.Errorf("%s: unsourced gives %q, want %q", test.what, got, test.want)
		}
	}
}
