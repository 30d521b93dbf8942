package scenario

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/runner/api"
)

// VariableName is what a variable or a prediction may be called.
type VariableName string

var (
	variableRule = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)
	reference    = regexp.MustCompile(`\$\{[^}]*\}?`)
)

// Check wants a name that can stand in ${…}.
func (n VariableName) Check(c *Checker, at string) {
	c.match(at, variableRule, string(n), "name %s cannot be one; must be letters, digits, '_' and '-' with a letter at the start")
}

// parts are those of a prediction: ${name.effective} and so on.
var parts = []string{"effective", "phase", "shadowed", "source"}

// variables is what ${…} can stand for, in one combination.
type variables struct {
	values Combination // and those of predictions, by name.part
	*names             // shared by all combinations
}

type names struct {
	set       map[string]int  // how many combinations set a variable
	predicted map[string]int  // the line of a prediction
	used      map[string]bool // by the file
}

// newNames knows the names that the combinations set.
func newNames(combinations []Scenario) *names {
	n := &names{map[string]int{}, map[string]int{}, map[string]bool{}}
	for _, c := range combinations {
		for name := range c.Values {
			n.set[string(name)]++
		}
	}
	return n
}

// replace puts the values in the place of all ${…} in a text, once: a value is
// not looked at again. In the name of a scenario a value that could not be seen
// there, as an empty one, is quoted.
func (v *variables) replace(text string, inName bool) (replaced string, err error) {
	replaced = reference.ReplaceAllStringFunc(text, func(found string) string {
		name, closed := strings.CutSuffix(found[2:], "}")
		whole, _, _ := strings.Cut(name, ".") // of a prediction name.part
		v.used[whole] = true
		value, ok := v.values[VariableName(name)]
		switch {
		case err != nil:
		case !closed:
			err = fmt.Errorf("has a ${ without an end in %s", quote(text))
		case !ok:
			err = v.unresolved(name)
		case inName && (value == "" || value != strings.TrimSpace(value)):
			return quote(value)
		}
		return value
	})
	return replaced, err
}

func (n *names) unresolved(name string) error {
	known := slices.Collect(maps.Keys(n.set))
	for name := range n.predicted {
		for _, part := range parts {
			known = append(known, name+"."+part)
		}
	}
	slices.Sort(known)
	switch {
	case n.set[name] > 0:
		return fmt.Errorf("${%s} has no value in some combinations", name)
	case len(known) == 0:
		return fmt.Errorf("%s stands for nothing, the file has no matrix", quote("${"+name+"}"))
	}
	return fmt.Errorf("%s stands for nothing, known are %s%s", quote("${"+name+"}"), strings.Join(known, ", "), api.DidYouMean(name, known))
}

// checkUse reports what is set and never used.
func (n *names) checkUse(matrix *Checker) {
	for name := range n.set {
		if !n.used[name] {
			at := cmp.Or(matrix.at("matrix."+name).line, matrix.at("include").line)
			matrix.problems.add(at, "", fmt.Sprintf("variable %s is not used, write ${%s} where it is meant", quote(name), name))
		}
	}
	for name, line := range n.predicted {
		if !n.used[name] {
			matrix.problems.add(line, "", fmt.Sprintf("prediction %s is not used, write ${%s.phase} or the like where it is meant", quote(name), name))
		}
	}
}
