package scenario

import (
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"github.com/studioml/studio-go-runner/e2e/oracle"
)

// maxCombinations bounds a family. The largest of the catalogue has 96
// members; more than this is a mistake in the matrix.
const maxCombinations = 1000

// familyFields are the fields of a file that only serve to expand it.
var familyFields = map[string]bool{"matrix": true, "exclude": true, "include": true, "predict": true}

// combination is one way to give values to the variables of a file.
type combination struct {
	values Combination
	line   int
}

// expand returns the scenarios of a file, one for each combination.
func (f *Format) expand(name string, root ast.Node) (all []Scenario, err error) {
	p := &problems{path: name}
	family := newChecker(f, p, nil, root)
	if _, ok := root.(ast.MapNode); !ok {
		family.bad(root, "", "the file is %s; must be a mapping", family.kind(root))
		return nil, p.err()
	}
	fields := map[string]ast.Node{}
	family.entries(root, "", func(name string, node ast.Node, _ string) { fields[name] = node })
	combinations := family.combinations(fields)
	known := newNames(combinations)
	for _, one := range combinations {
		v := &variables{maps.Clone(one.values), known}
		if v.values == nil {
			v.values = Combination{}
		}
		if node := fields["predict"]; node != nil {
			newChecker(f, p, v, root).predict(node)
		}
		s := Scenario{Path: name, Line: one.line, Values: one.values, Area: path.Base(path.Dir(name))}
		c := newChecker(f, p, v, root)
		c.file = &s.File
		if c.decode(root, reflect.ValueOf(c.file).Elem(), ""); s.Line == 0 {
			s.Line = c.line("name")
		}
		all = append(all, s)
	}
	if len(all) > 0 {
		known.checkUse(family)
	}
	return all, p.err()
}

// predict adds to the variables what the oracle says. A prediction cannot be made of
// another one.
func (c *Checker) predict(node ast.Node) {
	pairs, all := map[VariableName]Pair{}, c.variables
	c.variables = &variables{maps.Clone(all.values), &names{all.set, map[string]int{}, all.used}}
	c.decode(node, reflect.ValueOf(&pairs).Elem(), "predict")
	for name, pair := range pairs {
		at, want := "predict."+string(name), oracle.Predict(pair.Global, pair.Node)
		if all.set[string(name)] > 0 {
			c.Bad(at, "name %s is that of a variable of the matrix", quote(string(name)))
			continue
		}
		all.predicted[string(name)] = c.lines[at]
		for i, value := range []string{want.Effective, want.Phase, want.Shadowed, want.Source} {
			all.values[name+"."+VariableName(parts[i])] = value
		}
	}
}

// combinations returns those of a file; a file without any matrix has one. On a
// mistake in the matrix there are none.
func (c *Checker) combinations(fields map[string]ast.Node) (all []combination) {
	var file File
	before := len(c.problems.seen)
	for name, into := range map[string]any{"matrix": &file.Matrix, "exclude": &file.Exclude, "include": &file.Include} {
		if node := fields[name]; node != nil {
			c.lines[name] = lineOf(node)
			c.decode(node, reflect.ValueOf(into).Elem(), name)
		}
	}
	switch {
	case len(c.problems.seen) > before:
		return nil
	case len(file.Matrix) > 0:
		all = c.exclude(c.product(file.Matrix), file)
	case len(file.Exclude) > 0:
		c.Bad("exclude", "is set, but there is no matrix")
		return nil
	case len(file.Include) == 0:
		return []combination{{}}
	}
	for i, values := range file.Include {
		all = append(all, combination{values, c.lines[fmt.Sprintf("include[%d]", i)]})
	}
	if len(all) == 0 && len(c.problems.seen) == before {
		c.Bad("matrix", "has no combination left")
	}
	return all
}

// product returns all combinations; the first variable changes most slowly.
func (c *Checker) product(matrix Matrix) []combination {
	all := []combination{{values: Combination{}}}
	for i, v := range matrix {
		var longer []combination
		for _, one := range all {
			for j, value := range v.Values {
				more := combination{maps.Clone(one.values), one.line}
				if more.values[VariableName(v.Name)] = value; i == 0 {
					more.line = c.lines[fmt.Sprintf("matrix.%s[%d]", v.Name, j)]
				}
				longer = append(longer, more)
			}
		}
		if all = longer; len(all) > maxCombinations {
			c.Bad("matrix", "has more than %d combinations", maxCombinations)
			return nil
		}
	}
	return all
}

// exclude drops the combinations that an entry matches. An entry that drops nothing
// is a mistake.
func (c *Checker) exclude(all []combination, file File) []combination {
	var known []string
	for _, v := range file.Matrix {
		known = append(known, v.Name)
	}
	for i, entry := range file.Exclude {
		at, fine := fmt.Sprintf("exclude[%d]", i), true
		for name := range entry {
			if !slices.Contains(known, string(name)) {
				c.badLine(c.lines[at+"."+string(name)], at, "%s is no variable of the matrix%s", quote(string(name)), hint(string(name), known))
				fine = false
			}
		}
		before := len(all)
		all = slices.DeleteFunc(all, func(one combination) bool {
			for name, value := range entry {
				if one.values[name] != value {
					return false
				}
			}
			return true
		})
		if fine && len(all) == before && before > 0 {
			c.Bad(at, "matches no combination that is left")
		}
	}
	return all
}

// matrix reads a mapping from names to lists, in its order.
func (c *Checker) matrix(node ast.Node, into *Matrix, at string) {
	c.entries(node, at, func(name string, node ast.Node, at string) {
		v := Variable{Name: name}
		VariableName(name).Check(c, at)
		c.decode(node, reflect.ValueOf(&v.Values).Elem(), at)
		*into = append(*into, v)
	})
}
