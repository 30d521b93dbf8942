package scenario

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
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
	values map[string]string
	line   int
}

// expand returns the scenarios of a file, one for each combination.
func (f *Format) expand(name string, root ast.Node) ([]Scenario, error) {
	p := &problems{path: name}
	if _, ok := root.(ast.MapNode); !ok {
		d := newDecoder(f, p, nil, root)
		d.bad(root, "", "the file is %s; must be a mapping", d.kind(root))
		return nil, p.err()
	}
	combinations, matrix := f.readMatrix(p, root)
	known := newVariables(combinations)
	var all []Scenario
	for _, c := range combinations {
		all = append(all, f.one(p, root, known.with(c.values), c))
	}
	if len(combinations) > 0 {
		known.checkUse(p, matrix)
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return all, nil
}

// one reads the file for one combination.
func (f *Format) one(p *problems, root ast.Node, v *variables, c combination) Scenario {
	s := Scenario{Path: p.path, Line: c.line, Values: c.values, Area: areaOf(p.path)}
	f.predict(p, root, v)
	d := newDecoder(f, p, v, root)
	d.decodeStruct(root, reflect.ValueOf(&s.File).Elem(), "")
	if s.Line == 0 {
		s.Line = d.line("name")
	}
	fillIn(reflect.ValueOf(&s.File).Elem())
	check(d, &s.File)
	return s
}

// predict adds what the oracle says to the variables.
func (f *Format) predict(p *problems, root ast.Node, v *variables) {
	node := rootField(root, "predict")
	if node == nil {
		return
	}
	matrixOnly := *v // a prediction cannot be made of another one
	matrixOnly.predictions = nil
	d := newDecoder(f, p, &matrixOnly, root)
	pairs := map[string]Pair{}
	d.decode(node, reflect.ValueOf(&pairs).Elem(), "predict")
	for name, pair := range pairs {
		at := "predict." + name
		line := d.lines[at]
		switch {
		case !variableName.MatchString(name):
			d.badLine(line, at, "name %s cannot be one; must be %s", quote(name), variableNameRule)
		case v.known[name] > 0:
			d.badLine(line, at, "name %s is that of a variable of the matrix", quote(name))
		default:
			want := oracle.Predict(pair.Global, pair.Node)
			v.predict(name, line, map[string]string{
				"effective": want.Effective, "phase": want.Phase,
				"source": want.Source, "shadowed": want.Shadowed,
			})
		}
	}
}

// variableName is what a variable or a prediction may be called.
var variableName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)

const variableNameRule = "letters, digits, '_' and '-' with a letter at the start"

// readMatrix returns the combinations of a file; a file without any matrix
// has one. On a mistake in the matrix there are none.
func (f *Format) readMatrix(p *problems, root ast.Node) ([]combination, *decoder) {
	d := newDecoder(f, p, nil, root)
	before := len(p.seen)
	var matrix Matrix
	var exclude, include []map[string]string
	for name, into := range map[string]any{"matrix": &matrix, "exclude": &exclude, "include": &include} {
		if node := rootField(root, name); node != nil {
			d.lines[name] = lineOf(node)
			d.decode(node, reflect.ValueOf(into).Elem(), name)
		}
	}
	for i, row := range include {
		for name := range row {
			if at := fmt.Sprintf("include[%d].%s", i, name); !variableName.MatchString(name) {
				d.badLine(d.lines[at], "include", "name %s cannot be one; must be %s", quote(name), variableNameRule)
			}
		}
	}
	if len(p.seen) > before {
		return nil, d
	}
	if len(matrix) == 0 && len(include) == 0 {
		if len(exclude) > 0 {
			d.badLine(d.lines["exclude"], "exclude", "is set, but there is no matrix")
		}
		return []combination{{}}, d
	}
	combinations := d.drop(d.product(matrix), matrix, exclude)
	for i, row := range include {
		combinations = append(combinations, combination{row, d.lines[fmt.Sprintf("include[%d]", i)]})
	}
	if len(combinations) == 0 && len(p.seen) == before {
		d.badLine(d.lines["matrix"], "matrix", "has no combination left")
	}
	return combinations, d
}

// decodeMatrix reads a mapping from names to lists, in its order.
func (d *decoder) decodeMatrix(node ast.Node, into *Matrix, at string) {
	d.entries(node, at, func(name string, node ast.Node, at string) {
		v := Variable{Name: name}
		if !variableName.MatchString(name) {
			d.bad(node, "matrix", "name %s cannot be one; must be %s", quote(name), variableNameRule)
		}
		d.decode(node, reflect.ValueOf(&v.Values).Elem(), at)
		if _, isList := node.(*ast.SequenceNode); isList && len(v.Values) == 0 {
			d.bad(node, at, "has no values")
		}
		for i, value := range v.Values {
			if slices.Contains(v.Values[:i], value) {
				d.badLine(d.lines[fmt.Sprintf("%s[%d]", at, i)], at, "value %s stands there twice", quote(value))
			}
		}
		*into = append(*into, v)
	})
	if len(*into) == 0 {
		if _, ok := node.(ast.MapNode); ok {
			d.bad(node, at, "has no variables")
		}
	}
}

// product returns all combinations; the first variable changes most slowly.
func (d *decoder) product(matrix Matrix) []combination {
	if len(matrix) == 0 {
		return nil
	}
	count := 1
	for _, v := range matrix {
		if count *= len(v.Values); count > maxCombinations {
			d.badLine(d.lines["matrix"], "matrix", "has more than %d combinations", maxCombinations)
			return nil
		}
	}
	combinations := []combination{{}}
	for i, v := range matrix {
		var longer []combination
		for _, c := range combinations {
			for j, value := range v.Values {
				values := map[string]string{v.Name: value}
				maps.Copy(values, c.values)
				line := c.line
				if i == 0 {
					line = d.lines[fmt.Sprintf("matrix.%s[%d]", v.Name, j)]
				}
				longer = append(longer, combination{values, line})
			}
		}
		combinations = longer
	}
	return combinations
}

// drop takes out the excluded combinations. An entry that takes out nothing is
// a mistake.
func (d *decoder) drop(combinations []combination, matrix Matrix, exclude []map[string]string) []combination {
	for i, entry := range exclude {
		at := fmt.Sprintf("exclude[%d]", i)
		var variableNames []string
		for _, v := range matrix {
			variableNames = append(variableNames, v.Name)
		}
		for name := range entry {
			if !slices.Contains(variableNames, name) {
				d.badLine(d.lines[at+"."+name], at, "%s is no variable of the matrix%s", quote(name), hint(name, variableNames))
			}
		}
		if d.failed[at] {
			continue
		}
		before := len(combinations)
		combinations = slices.DeleteFunc(combinations, func(c combination) bool {
			for name, value := range entry {
				if c.values[name] != value {
					return false
				}
			}
			return true
		})
		if len(combinations) == before && before > 0 {
			d.badLine(d.lines[at], at, "matches no combination that is left")
		}
	}
	return combinations
}
