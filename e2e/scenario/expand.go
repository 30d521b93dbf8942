package scenario

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"github.com/studioml/studio-go-runner/e2e/oracle"
)

// maxCombinations bounds a family. The largest of the catalogue has 96
// members; more than this is a mistake in the matrix.
const maxCombinations = 1000

// family are the fields of a file that give values to its variables.
var family = []string{"matrix", "exclude", "include"}

// predict adds to the values what the oracle says. A prediction cannot be made of
// another one.
func (c *Checker) predict(tree map[string]any) {
	all, _ := tree["predict"].(map[string]any)
	for name, pair := range all {
		pair, _ := pair.(map[string]any)
		global, _ := pair["global"].(string)
		node, _ := pair["node"].(string)
		want := oracle.Predict(global, node)
		maps.Copy(c.values, Combination{name + ".effective": want.Effective, name + ".phase": want.Phase,
			name + ".shadowed": want.Shadowed, name + ".source": want.Source})
	}
}

// combinations returns those of a file; a file without any matrix has one. On a
// mistake in the matrix there are none.
func (c *Checker) combinations(root ast.MapNode) (all []Scenario) {
	tree := c.mapping(root, "", func(key string) bool { return slices.Contains(family, key) })
	c.validate(tree)
	if len(c.problems) > 0 {
		return nil
	}
	c.decode(tree, reflect.ValueOf(c.File).Elem(), "")
	if len(c.File.Matrix) > 0 || len(c.File.Include) == 0 {
		all = c.product()
	}
	for i, entry := range c.File.Exclude {
		before := len(all)
		all = slices.DeleteFunc(all, func(one Scenario) bool {
			for name, value := range entry {
				if has, ok := one.Values[name]; !ok || has != value {
					return false
				}
			}
			return true
		})
		if len(all) == before && before > 0 {
			c.Bad(fmt.Sprintf("exclude[%d]", i), "matches no combination that is left")
		}
	}
	for i, values := range c.File.Include {
		all = append(all, Scenario{Values: values, Line: c.line(fmt.Sprintf("include[%d]", i))})
	}
	if len(all) == 0 && len(c.problems) == 0 {
		c.Bad("matrix", "has no combination left")
	}
	return all
}

// product returns all combinations; the first variable of the file changes most slowly.
func (c *Checker) product() []Scenario {
	all, place := []Scenario{{Values: Combination{}}}, func(name string) int { return c.places["matrix."+name].Offset }
	names := slices.SortedFunc(maps.Keys(c.File.Matrix), func(a, b string) int { return cmp.Compare(place(a), place(b)) })
	for i, name := range names {
		var longer []Scenario
		for _, one := range all {
			for j, value := range c.File.Matrix[name] {
				more := Scenario{Values: maps.Clone(one.Values), Line: one.Line}
				if more.Values[name] = value; i == 0 {
					more.Line = c.line(fmt.Sprintf("matrix.%s[%d]", name, j))
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
