package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// typers are the tests that type all blocks of a document, but those of make and those
// that they name with the test that does.
var typers = map[string]string{
	"README.md": "TestReadme in runner", "runner/deploy/FLEET.md": "documentSpecs", "runner/deploy/MIGRATION.md": "documentSpecs",
	"fakegpu/README.md": "TestReadme in fakegpu/cmd/fakegpu",
}

// scripts are shell that is run as it is, beside the blocks of documents; whoever types
// make full types all that it has.
var scripts = []string{filepath.Join("..", ".ci", "run"), filepath.Join("testdata", "sentences.sh"), filepath.Join("testdata", "full.sh")}

// What the documents have people type, in blocks, sentences and tables, a test types.
func TestCommandsAreTyped(t *testing.T) {
	if config.target != "" {
		t.Skip("it is about the repository, which the image of the suite has not; make test runs it")
	}
	known := programs{paths: map[string]string{}}
	for _, program := range []string{"runner", "kubectl", "fakegpu", "nvidia-smi", "bin/e2e", "make", "go", "docker", "kind", "ctr", "kill", "sudo"} {
		known.paths[program] = program
	}
	all, err := texts()
	if err != nil {
		t.Fatal(err)
	}
	typed := [][]string{{"make", "full"}}
	for _, name := range scripts {
		script, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		typed = append(typed, known.calls(string(script))...)
	}
	var said [][]string
	for name, text := range all {
		for _, found := range fence.FindAllStringSubmatch(text, -1) {
			if found[1] != "sh" {
				continue
			}
			for _, words := range known.calls(found[2]) {
				if typers[filepath.ToSlash(strings.TrimPrefix(name, "../"))] != "" && words[0] != "make" {
					typed = append(typed, words)
				} else {
					said = append(said, words)
				}
			}
		}
		for _, found := range spans.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			said = append(said, known.calls(placeholder.Replace(metavar.ReplaceAllString(found[1], "")))...)
		}
	}
	for _, words := range said {
		if len(words) > 1 && !slices.ContainsFunc(typed, func(line []string) bool { return within(words, line) }) {
			t.Errorf("no test types %q: have it in a block, or in one of %v", strings.Join(plain(words), " "), scripts)
		}
	}
}

var standsFor = regexp.MustCompile(`^([A-Z]+|1)?$`)

// plain are words without those that stand for others, and flags that are no more.
func plain(words []string) []string {
	return slices.DeleteFunc(slices.Clone(words), func(word string) bool { return standsFor.MatchString(word) || slices.Contains(gone, word) })
}

// within says whether a line has all words of a sentence in their order, be it with more
// behind a flag's name or a variable's =.
func within(words, line []string) bool {
	for _, word := range plain(words) {
		i := slices.IndexFunc(line, func(other string) bool {
			return other == word || strings.HasPrefix(other, strings.TrimSuffix(word, "=")+"=")
		})
		if i < 0 {
			return false
		}
		line = line[i+1:]
	}
	return true
}
