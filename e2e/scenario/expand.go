package scenario

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"github.com/studioml/studio-go-runner/e2e/oracle"
	"github.com/studioml/studio-go-runner/runner/api"
)

// maxCombinations bounds a family. The largest of the catalogue has 96
// members; more than this is a mistake in the matrix.
const maxCombinations = 1000

// family are the fields of a file that give values to its variables.
var family = []string{"matrix", "exclude", "include"}

// expand returns the scenarios of a file, one for each combination.
func (f *Format) expand(name string, root ast.MapNode) (all []Scenario, err error) {
	p := &problems{path: name}
	outer, nodes := newChecker(f, p, nil, &File{}), map[string]ast.Node{}
	outer.at("").line = lineOf(root.(ast.Node))
	for name, node := range outer.entries(root, "") {
		nodes[name] = node
	}
	all = outer.combinations(nodes)
	known := newNames(all)
	for i := range all {
		s := &all[i]
		s.Path, s.Line, s.Area = name, cmp.Or(s.Line, outer.line("name")), path.Base(path.Dir(name))
		c := newChecker(f, p, &variables{maps.Clone(s.Values), known}, &s.File)
		for path, place := range outer.places {
			c.at(path).line = place.line
		}
		c.load(nodes)
	}
	if len(all) > 0 {
		known.checkUse(outer)
	}
	return all, p.err()
}

// load reads the file for the values that the variables have.
func (c *Checker) load(nodes map[string]ast.Node) {
	predictions := c.predict(nodes["predict"])
	read := func() map[string]any {
		tree := map[string]any{}
		for name, node := range nodes {
			if name == "predict" {
				tree[name] = predictions
			} else if !slices.Contains(family, name) {
				tree[name] = c.read(node, name)
			}
		}
		return tree
	}
	tree := read()
	if c.validate(tree); c.again {
		tree = read()
		c.validate(tree)
	}
	delete(tree, "predict")
	c.decode(tree, reflect.ValueOf(c.File).Elem(), "")
}

// predict adds to the variables what the oracle says. A prediction cannot be made of
// another one.
func (c *Checker) predict(node ast.Node) any {
	if node == nil {
		return nil
	}
	all := c.variables
	c.variables = &variables{maps.Clone(all.values), &names{all.set, map[string]int{}, all.used}}
	tree, pairs := c.read(node, "predict"), map[VariableName]Pair{}
	c.decode(tree, reflect.ValueOf(&pairs).Elem(), "predict")
	c.variables = all
	for name, pair := range pairs {
		at, want := "predict."+string(name), oracle.Predict(pair.Global, pair.Node)
		if all.set[string(name)] > 0 {
			c.Bad(at, "name %s is that of a variable of the matrix", quote(string(name)))
			continue
		}
		all.predicted[string(name)] = c.at(at).line
		for i, value := range []string{want.Effective, want.Phase, want.Shadowed, want.Source} {
			all.values[name+"."+VariableName(parts[i])] = value
		}
	}
	return tree
}

// combinations returns those of a file; a file without any matrix has one. On a
// mistake in the matrix there are none.
func (c *Checker) combinations(nodes map[string]ast.Node) (all []Scenario) {
	var file File
	before, tree := len(c.problems.seen), map[string]any{}
	for _, name := range family {
		if node := nodes[name]; node != nil {
			c.at(name).line = lineOf(node)
			tree[name] = c.read(node, name)
		}
	}
	c.validate(tree)
	for name, into := range map[string]any{"matrix": &file.Matrix, "exclude": &file.Exclude, "include": &file.Include} {
		c.decode(tree[name], reflect.ValueOf(into).Elem(), name)
	}
	switch {
	case len(c.problems.seen) > before:
		return nil
	case len(file.Matrix) > 0:
		var order []string
		for name := range c.entries(nodes["matrix"].(ast.MapNode), "matrix") {
			order = append(order, name)
		}
		all = c.exclude(c.product(file.Matrix, order), file)
	case len(file.Exclude) > 0:
		c.Bad("exclude", "is set, but there is no matrix")
		return nil
	case len(file.Include) == 0:
		return []Scenario{{Values: Combination{}}}
	}
	for i, values := range file.Include {
		all = append(all, Scenario{Values: values, Line: c.at(fmt.Sprintf("include[%d]", i)).line})
	}
	if len(all) == 0 && len(c.problems.seen) == before {
		c.Bad("matrix", "has no combination left")
	}
	return all
}

// product returns all combinations; the first variable changes most slowly.
func (c *Checker) product(matrix Matrix, order []string) []Scenario {
	all := []Scenario{{Values: Combination{}}}
	for i, name := range order {
		var longer []Scenario
		for _, one := range all {
			for j, value := range matrix[VariableName(name)] {
				more := Scenario{Values: maps.Clone(one.Values), Line: one.Line}
				if more.Values[VariableName(name)] = value; i == 0 {
					more.Line = c.at(fmt.Sprintf("matrix.%s[%d]", name, j)).line
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
func (c *Checker) exclude(all []Scenario, file File) []Scenario {
	known := Words(slices.Sorted(maps.Keys(file.Matrix))...)
	for i, entry := range file.Exclude {
		at, fine := fmt.Sprintf("exclude[%d]", i), true
		for name := range entry {
			if _, ok := file.Matrix[name]; !ok {
				c.badLine(c.line(at+"."+string(name)), at, "%s is no variable of the matrix%s", quote(string(name)), api.DidYouMean(string(name), known))
				fine = false
			}
		}
		before := len(all)
		all = slices.DeleteFunc(all, func(one Scenario) bool {
			for name, value := range entry {
				if one.Values[name] != value {
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
