package mutants

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// product has one of each kind of fault, and tests that notice all but one.
var product = map[string]string{
	"go.mod": "module m\n\ngo 1.26\n",
	"p/p.go": `package p

import "sync"

type T struct {
	mu    sync.Mutex
	n     int
	calls []string
}

func (t *T) Add(n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n < 3 && !(n == 1) {
		t.n += n
		return true
	}
	switch {
	case t.n > 100:
		panic("too many")
	case (n == 5) == (t.n == 0):
		t.note(
			"five")
	}
	return false
}

func (t *T) note(what string) { t.calls = append(t.calls, what) }

func Never() int {
	for i := range 3 {
		if i == 2 {
			return i
		}
	}
	return 0
}
`,
	"p/p_test.go": `package p

import (
	"sync"
	"testing"
)

func TestAdd(t *testing.T) {
	for n, want := range []bool{true, false, true, false} {
		var x T
		if got := x.Add(n); got != want || (x.n == 2) != (n == 2) || (len(x.calls) == 1) != (n == 5) && n > 2 {
			t.Errorf("%d: %v %+v", n, got, &x)
		}
	}
	x := T{n: 1}
	if x.Add(4); len(x.calls) != 1 {
		t.Error("not noted")
	}
	if x.Add(5); len(x.calls) != 1 {
		t.Error("noted")
	}
	x.n = 100
	x.Add(5)
	var both sync.WaitGroup
	both.Go(func() { x.Add(2) })
	both.Wait()
}
`,
}

func write(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// broken is the package of product with its faults, in the working directory.
func broken(t *testing.T) *area {
	t.Helper()
	t.Chdir(write(t, product))
	areas, err := load([]byte("- package: p\n"))
	if err != nil {
		t.Fatal(err)
	}
	return areas[0]
}

func TestFaults(t *testing.T) {
	a := broken(t)
	var got []string
	for i, f := range a.faults {
		if f.number != i+1 || f.line == 0 {
			t.Errorf("fault %+v, want the number %d and a line", f, i+1)
		}
		got = append(got, strings.TrimPrefix(f.key, "p/p.go "))
	}
	want := []string{
		"T.Add: drop t.mu.Lock()", "T.Add: drop defer t.mu.Unlock()", "T.Add: negate n < 3", "T.Add: shift n < 3", "T.Add: negate n == 1",
		"T.Add: drop t.n += n", "T.Add: negate t.n > 100", "T.Add: shift t.n > 100", "T.Add: negate (n == 5) == (t.n == 0)", "T.Add: negate n == 5", "T.Add: negate t.n == 0", "T.Add: drop t.note(",
		"T.note: drop t.calls = append(t.calls, what)", "Never: negate i == 2",
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("faults\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for path, text := range a.files {
		if strings.HasSuffix(path, "/p.go") && strings.Count(text, "\n") != strings.Count(product["p/p.go"], "\n") {
			t.Errorf("a line has moved:\n%s", text)
		}
	}
}

// What happens to them when they are played, the deadlock included.
func TestVerdicts(t *testing.T) {
	if err := checkAlone(t.Context()); err != nil {
		t.Skip(err)
	}
	a := broken(t)
	if err := a.play(t.Context(), Command{}); err != nil {
		t.Fatal(err)
	}
	for _, m := range a.faults {
		want := killed
		switch {
		case strings.Contains(m.key, "Never"):
			want = survived
		case strings.Contains(m.key, "Unlock"):
			want = timedOut
		}
		if m.verdict != want {
			t.Errorf("%s: %s, want %s", m.key, m.verdict, want)
		}
	}
	var out strings.Builder
	if err := report(&out, []*area{a}); err == nil || err.Error() != "1 faults survive; write a test that fails with each, or say in areas.yaml why none can" {
		t.Errorf("report ends with %v", err)
	}
	if !strings.Contains(out.String(), "p/p.go:32: Never: negate i == 2\n\tsurvived") {
		t.Errorf("the report does not say where the survivor is:\n%s", &out)
	}
	// It may, for a reason.
	a.faults = slices.DeleteFunc(a.faults, func(f *fault) bool { return !strings.Contains(f.key, "Never") })
	a.faults[0].reason = "why not"
	if err := a.play(t.Context(), Command{}); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := report(&out, []*area{a}); err != nil || !strings.Contains(out.String(), "\taccepted why not\n") {
		t.Errorf("with a reason: %v, and the report\n%s", err, &out)
	}
}

func TestAccepted(t *testing.T) {
	t.Chdir(write(t, product))
	const never = "'p/p.go Never: negate i == 2': "
	for text, want := range map[string]string{
		"# why\n- {package: p, accepted: {" + never + "one two, 'p/p.go T.Add: drop t.mu.Lock()': three}}": "",
		"- {package: p, accepted: {'p/p.go Never: drop z()': why}}":                                        "there is no such fault any more",
		"- {package: p, accepted: {" + never + "}}":                                                        "or no reason",
		"- {package: p, aceppted: {}}":                                                                     "unknown field",
		"- {package: q}":                                                                                   "cannot find package",
	} {
		areas, err := load([]byte(text))
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q gives %v, want %q", text, err, want)
		}
		if want != "" {
			continue
		}
		reasons := map[string]string{}
		for _, f := range areas[0].faults {
			if f.reason != "" {
				reasons[strings.TrimPrefix(f.key, "p/p.go ")] = f.reason
			}
		}
		if len(reasons) != 2 || reasons["Never: negate i == 2"] != "one two" || reasons["T.Add: drop t.mu.Lock()"] != "three" {
			t.Errorf("the reasons are %v", reasons)
		}
	}
}

// What may survive is a fault that there is: code that changes takes its line along.
func TestAcceptedFaultsAreThere(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	if _, err := load(areasFile); err != nil {
		t.Error(err)
	}
}

// The same seed chooses the same faults, of so many packages, and another one others.
func TestSample(t *testing.T) {
	choose := func(seed uint64) (chosen []*fault) {
		var all []*area
		for i := range 9 {
			all = append(all, &area{})
			for j := range 10 {
				all[i].faults = append(all[i].faults, &fault{key: fmt.Sprint(i, j)})
			}
		}
		c := Command{Short: true, Seed: seed, Only: regexp.MustCompile("[^3]$")}
		for _, a := range c.choose(all) {
			chosen = append(chosen, a.faults...)
		}
		return chosen
	}
	first := choose(7)
	if len(first) != 2*9 {
		t.Errorf("chose %v", first)
	}
	same := func(a, b *fault) bool { return a.key == b.key }
	if !slices.EqualFunc(first, choose(7), same) || slices.EqualFunc(first, choose(8), same) {
		t.Errorf("seed 7 chose %v, then %v, and seed 8 %v", first, choose(7), choose(8))
	}
}
