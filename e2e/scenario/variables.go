package scenario

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// variables is what ${…} can stand for, in one combination.
type variables struct {
	values map[string]string

	// known counts the combinations that set a variable, and used has those
	// that the file refers to; both are shared by all combinations.
	known map[string]int
	used  map[string]bool
	// predictions has the line of each prediction, shared too.
	predictions map[string]int
}

// newVariables knows the names that the combinations set.
func newVariables(combinations []combination) *variables {
	v := &variables{known: map[string]int{}, used: map[string]bool{}, predictions: map[string]int{}}
	for _, c := range combinations {
		for name := range c.values {
			v.known[name]++
		}
	}
	return v
}

// with returns the variables with the values of one combination.
func (v *variables) with(values map[string]string) *variables {
	one := *v
	one.values = maps.Clone(values)
	if one.values == nil {
		one.values = map[string]string{}
	}
	return &one
}

// predict adds a prediction, of which ${name.part} are the parts.
func (v *variables) predict(name string, line int, parts map[string]string) {
	v.predictions[name] = line
	for part, value := range parts {
		v.values[name+"."+part] = value
	}
}

// replace puts the values in the place of all ${…} in a text, once: a value is
// not looked at again. In the name of a scenario a value that could not be seen
// there, as an empty one, is quoted.
func (v *variables) replace(text string, inName bool) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", fmt.Errorf("has a ${ without an end in %s", quote(text))
		}
		whole, _, _ := strings.Cut(name, ".") // of a prediction name.part
		v.used[whole] = true
		value, ok := v.values[name]
		if !ok {
			return "", v.unresolved(name)
		}
		if inName && (value == "" || value != strings.TrimSpace(value)) {
			value = quote(value)
		}
		b.WriteString(value)
		text = after
	}
}

func (v *variables) unresolved(name string) error {
	if v.known[name] > 0 {
		return fmt.Errorf("${%s} has no value in some combinations", name)
	}
	var settable []string
	for name := range v.known {
		settable = append(settable, name)
	}
	for name := range v.predictions {
		for _, part := range []string{"effective", "phase", "source", "shadowed"} {
			settable = append(settable, name+"."+part)
		}
	}
	slices.Sort(settable)
	if len(settable) == 0 {
		return fmt.Errorf("%s stands for nothing, the file has no matrix", quote("${"+name+"}"))
	}
	return fmt.Errorf("%s stands for nothing, known are %s%s",
		quote("${"+name+"}"), strings.Join(settable, ", "), hint(name, settable))
}

// checkUse reports what is set and never used.
func (v *variables) checkUse(p *problems, matrix *decoder) {
	for name := range v.known {
		if v.used[name] {
			continue
		}
		line, ok := matrix.lines["matrix."+name]
		if !ok {
			line = matrix.lines["include"]
		}
		p.add(line, "variable %s is not used, write ${%s} where it is meant", quote(name), name)
	}
	for name, line := range v.predictions {
		if !v.used[name] {
			p.add(line, "prediction %s is not used, write ${%s.phase} or the like where it is meant", quote(name), name)
		}
	}
}

// rootField returns the value of a field of the file, nil if it is not there.
func rootField(root ast.Node, name string) ast.Node {
	for iter := root.(ast.MapNode).MapRange(); iter.Next(); {
		if key, ok := iter.Key().(*ast.StringNode); ok && key.Value == name {
			return iter.Value()
		}
	}
	return nil
}

// areaOf returns the name of the folder that a file is in.
func areaOf(name string) string { return path.Base(path.Dir(name)) }
