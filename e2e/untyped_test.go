package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// typers are the tests that type all blocks of a document, but those that they name
// with a reason.
var typers = map[string]string{
	"README.md": "TestReadme in runner", "runner/deploy/FLEET.md": "documentSpecs", "runner/deploy/MIGRATION.md": "documentSpecs",
	"fakegpu/README.md": "TestReadme in fakegpu/cmd/fakegpu",
}

// untyped are the commands of documents that no test types, and what is done instead.
var untyped = map[string]string{
	"bin/e2e report":                  "TestReport in e2e/cmd/e2e calls it",
	"docker load -i":                  "make image gives Docker its image",
	"kind load image-archive":         "the suite on kind gives its nodes archives by kind's own code for this, which calls ctr",
	"ctr -n k8s.io images import":     "likewise",
	"kill -9":                         "tasks of group_test.go in runner/internal/task do",
	"kill -9 -1":                      "it would end the tests as well; crash_test.go of the spool kills runners and supervisors",
	"nvidia-smi mig -lgip":            "it is NVIDIA's, and needs a card",
	"go test -race -run":              "make test plays all tests",
	"go generate ./fakegpu":           "a test of fakegpu compares what it makes",
	"make full":                       "hours; .ci/run has a short form of most of it",
	"make clients-full":               "part of make full",
	"make chaos-planted":              "part of make full",
	"make conformance LEVEL=":         "part of make full, and .ci/run plays core",
	"make conformance TARGET=kind":    "part of make full",
	"make conformance IMAGE=":         "the suite on kind calls bin/e2e so, with its image",
	"make conformance REPORT=":        "it writes into the checkout; TestConformance names a report",
	"make chaos QUEUE=":               "likewise",
	"make chaos SEED=":                "likewise",
	"make chaos KINDS=":               "likewise, of all kinds",
	"make chaos SHORT=1 SEED=":        "likewise, with another seed",
	"make e2e FOCUS=":                 "some scenarios of those that .ci/run plays",
	"make e2e LABELS=":                "likewise",
	"make e2e REPEAT=":                "likewise, again",
	"make e2e TARGET=embedded FOCUS=": "likewise",
	"make e2e TARGET=kind FOCUS=":     "likewise",
	"make node-image":                 "make e2e TARGET=kind makes it where it has none",
	"make fakegpu-image":              "make e2e TARGET=kind makes that image under another name",
	"make tests-image BASE=":          "likewise",
	"make tests-image":                "likewise",
}

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
	script, err := os.ReadFile(filepath.Join("..", ".ci", "run"))
	if err != nil {
		t.Fatal(err)
	}
	typed := known.calls(string(script))
	typed = append(typed, known.calls(sentences)...)
	var said [][]string
	for name, text := range all {
		for _, found := range fence.FindAllStringSubmatch(text, -1) {
			switch {
			case found[1] != "sh":
			case typers[filepath.ToSlash(strings.TrimPrefix(name, "../"))] != "":
				typed = append(typed, known.calls(found[2])...)
			default:
				said = append(said, known.calls(found[2])...)
			}
		}
		for _, found := range spans.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			said = append(said, known.calls(placeholder.Replace(metavar.ReplaceAllString(found[1], "")))...)
		}
	}
	left := map[string]bool{}
	for _, words := range said {
		if len(words) < 2 || slices.ContainsFunc(typed, func(line []string) bool { return within(words, line) }) {
			continue
		}
		line, known := strings.Join(plain(words), " "), false
		for begin := range untyped {
			if line == begin || strings.HasSuffix(begin, "=") && strings.HasPrefix(line, begin) {
				left[begin], known = true, true
			}
		}
		if !known {
			t.Errorf("no test types %q: have it in a block, in testdata/sentences.sh, or in untyped with a reason", line)
		}
	}
	for begin := range untyped {
		if !left[begin] {
			t.Errorf("no document has %q, or a test types it; take it out of untyped", begin)
		}
	}
}

var standsFor = regexp.MustCompile(`^([A-Z]+|1)?$`)

// plain are words without those that stand for others, and flags that are no more.
func plain(words []string) []string {
	return slices.DeleteFunc(slices.Clone(words), func(word string) bool { return standsFor.MatchString(word) || slices.Contains(gone, word) })
}

// within says whether a line has all words of a sentence in their order, be it with more
// behind a flag's name.
func within(words, line []string) bool {
	for _, word := range plain(words) {
		i := slices.IndexFunc(line, func(other string) bool { return other == word || strings.HasPrefix(other, word+"=") })
		if i < 0 {
			return false
		}
		line = line[i+1:]
	}
	return true
}
