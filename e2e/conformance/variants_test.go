package conformance_test

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/studioml/studio-go-runner/e2e/conformance"
	"github.com/studioml/studio-go-runner/e2e/controlplane"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
)

// perCore is how many scenarios are played at the same time for each core of a small
// machine. They mostly wait.
const perCore = 6

// variant is the small runner with one line changed.
type variant struct {
	Name    string   `json:"name"`
	Rule    string   `json:"rule"`
	About   string   `json:"about"`
	Line    string   `json:"line"`
	Instead string   `json:"instead"`
	Fails   []string `json:"fails"`
}

func variants(t *testing.T) (all []variant) {
	t.Helper()
	text, err := os.ReadFile("variants.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// write writes the variant as a program.
func (v variant) write(t *testing.T) string {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("small", "runner.py"))
	if err != nil {
		t.Fatal(err)
	}
	lines, changed := strings.Split(string(source), "\n"), 0
	for i, line := range lines {
		if strings.TrimSpace(line) == v.Line {
			lines[i] = strings.Replace(line, v.Line, v.Instead, 1)
			changed++
		}
	}
	if changed != 1 {
		t.Fatalf("%s: small/runner.py has %d lines that are %s; must be one", v.Name, changed, v.Line)
	}
	program := filepath.Join(t.TempDir(), "runner.py")
	if err := os.WriteFile(program, []byte(strings.Join(lines, "\n")), 0o755); err != nil {
		t.Fatal(err)
	}
	return program
}

// The lines that variants change are there, and what they fail is in core.
func TestVariantsAreOfTheSmallRunner(t *testing.T) {
	suite, err := conformance.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, s := range suite.Scenarios[conformance.Core] {
		files = append(files, base(s.Path))
	}
	for _, v := range variants(t) {
		v.write(t)
		if len(v.Fails) == 0 {
			t.Errorf("%s fails nothing", v.Name)
		}
		for _, file := range v.Fails {
			if !slices.Contains(files, file) {
				t.Errorf("%s fails %s, which is not in core", v.Name, file)
			}
		}
	}
}

// Each variant fails the scenarios that its rule is about, and no others. Make
// conformance-variants says how many are drawn, and by what.
func TestVariants(t *testing.T) {
	if os.Getenv("CONFORMANCE_VARIANTS") == "" {
		t.Skip("needs a control plane; run it with: make conformance-variants")
	}
	suite, err := conformance.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	plane, err := controlplane.Start(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, v := range drawn(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			target, err := embedded.New(embedded.Config{Handle: plane.Handle, Adapter: conformance.Adapter{v.write(t)}})
			if err != nil {
				t.Fatal(err)
			}
			player := conformance.Player{Target: target, Kind: "embedded", Procs: 2 * perCore, Artifacts: t.TempDir()}
			results, err := player.Play(t.Context(), suite, conformance.Core)
			if err != nil {
				t.Fatal(err)
			}
			var failed []string
			for _, r := range results {
				if r.Err != nil {
					failed = append(failed, base(r.Scenario.Path))
					t.Logf("%v", r.Err)
				}
			}
			if diff := gocmp.Diff(v.Fails, failed); diff != "" {
				t.Errorf("%s (%s): what failed, want - got +\n%s", v.Name, v.Rule, diff)
			}
		})
	}
}

// drawn are as many variants as CONFORMANCE_VARIANTS says, by the text of
// CONFORMANCE_SEED, or all of them.
func drawn(t *testing.T) []variant {
	t.Helper()
	all := variants(t)
	text := os.Getenv("CONFORMANCE_VARIANTS")
	if text == "all" {
		return all
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > len(all) {
		t.Fatalf("CONFORMANCE_VARIANTS is %q; must be all, or 1 to %d", text, len(all))
	}
	hash := fnv.New64a()
	fmt.Fprint(hash, cmp.Or(os.Getenv("CONFORMANCE_SEED"), "0"))
	rand.New(rand.NewPCG(hash.Sum64(), 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:n]
}

func base(file string) string { return strings.TrimSuffix(path.Base(file), ".yaml") }
