package scenario

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Scenario is what one spec runs: a file for one combination of its matrix.
type Scenario struct {
	// File has all ${…} replaced and the defaults filled in. Matrix, Exclude,
	// Include and Predict are empty.
	File
	// Path of the file, with slashes.
	Path string
	// Line is where the name stands; in a family, where the first variable's
	// value stands, or the combination in include.
	Line int
	// Values are those of the matrix variables in this combination.
	Values Combination
	// Area is the name of the folder.
	Area string
}

// Location returns path:line, which editors and terminals make a link of.
func (s *Scenario) Location() string { return fmt.Sprintf("%s:%d", s.Path, s.Line) }

// LoadDir loads all scenarios under root, as scenarios/<area>/<file>.yaml, in
// the order of their paths. Paths in results and errors begin with the last
// element of root. The error joins all that is wrong with any file.
func (f *Format) LoadDir(root string) (all []Scenario, err error) {
	absolute, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("find scenarios: %w", err)
	}
	base := filepath.Base(absolute)
	if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("find scenarios: there is no directory %s; this is run at the root of the repository", absolute)
	}
	var errs []error
	err = fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		// A link may be one to a directory, in which nobody looks.
		if entry.Type() != fs.ModeSymlink && !slices.Contains([]string{".yaml", ".yml"}, strings.ToLower(path.Ext(name))) {
			return nil
		}
		shown := path.Join(base, name)
		if fits, _ := path.Match("*/*.yaml", name); !fits {
			errs = append(errs, fmt.Errorf("%s: is not read; must be %s/<area>/<file>.yaml", shown, base))
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		some, err := f.Parse(shown, text)
		errs, all = append(errs, err), append(all, some...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find scenarios: %w", err)
	}
	if err := errors.Join(append(errs, sameNames(all)...)...); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("find scenarios: there is no .yaml file under %s", root)
	}
	return all, nil
}

// Load loads the scenarios of one file. The error joins all that is wrong with it.
func (f *Format) Load(name string) ([]Scenario, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read scenarios: %w", err)
	}
	return f.Parse(filepath.ToSlash(name), text)
}

// Parse reads the scenarios in the text of one file, one for each combination of its
// matrix; name is the path that the scenarios and the errors carry.
func (f *Format) Parse(name string, text []byte) ([]Scenario, error) {
	root, err := parseYAML(name, text)
	if err != nil {
		return nil, err
	}
	p := problems{}
	head := newChecker(f, p, nil, &File{})
	all := head.combinations(root)
	for i := range all {
		s := &all[i]
		c := newChecker(f, p, maps.Clone(s.Values), &s.File)
		c.load(root)
		if len(p) == 0 {
			head.unused(c)
		}
		s.Path, s.Line, s.Area = name, cmp.Or(s.Line, c.line("name")), path.Base(path.Dir(name))
	}
	if err := cmp.Or(p.in(name), errors.Join(sameNames(all)...)); err != nil {
		return nil, err
	}
	return all, nil
}

// unused reports what a matrix varies, or what is predicted, and changes nothing but
// words: it was meant to be used. A case of include may have words for its name.
func (c *Checker) unused(in *Checker) {
	const text = "is used nowhere but in the name; write ${%s} where it counts, or take it away"
	for name := range in.values {
		if at := "matrix." + name; c.places[at] != nil && !in.used[name] {
			c.Bad(at, text, name)
		}
		if prediction, is := strings.CutSuffix(name, ".phase"); is && !in.used[prediction] {
			in.Bad("predict."+prediction, text, name)
		}
	}
}

// load reads the file for the values that the variables have.
func (c *Checker) load(root ast.MapNode) {
	c.places[""] = begin(root.(ast.Node))
	predictions := c.mapping(root, "", func(key string) bool { return key == "predict" })
	c.predict(predictions)
	tree := c.mapping(root, "", func(key string) bool { return key != "predict" && !slices.Contains(family, key) })
	maps.Copy(tree, predictions)
	c.validate(tree)
	delete(tree, "predict")
	c.decode(tree, reflect.ValueOf(c.File).Elem(), "")
}

// maxFileBytes is far above any file that a person would write, and keeps a mistaken path
// (a log, an image) from being read as YAML. It is little enough for a parser that calls
// itself, and takes the square of the depth, and for a file that is read for each
// combination of its matrix.
const maxFileBytes = 16 << 10

// parseYAML returns the mapping that a file is.
func parseYAML(name string, text []byte) (root ast.MapNode, err error) {
	bad := func(line int, format string, args ...any) (ast.MapNode, error) {
		return nil, problem{line, fmt.Sprintf(format, args...)}.in(name)
	}
	if len(text) > maxFileBytes {
		return bad(0, "has %d bytes; must be at most %d", len(text), maxFileBytes)
	}
	if bytes.HasPrefix(text, []byte("\xef\xbb\xbf")) {
		return bad(1, "begins with a byte order mark; save the file as UTF-8 without one")
	}
	if !utf8.Valid(text) {
		valid := strings.ToValidUTF8(string(text), "\xff")
		return bad(1+strings.Count(valid[:strings.IndexByte(valid, '\xff')], "\n"), "is not UTF-8; save the file as UTF-8")
	}
	// Duplicate keys are left to mapping, which goes on after them.
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	var syntax yaml.Error
	switch {
	case errors.As(err, &syntax) && syntax.GetToken() != nil:
		line, advice := syntax.GetToken().Position.Line, ""
		if lines := bytes.Split(text, []byte("\n")); line <= len(lines) && bytes.Contains(lines[line-1], []byte("${")) {
			advice = `; within {} and [] a variable needs quotes, as "${name}"`
		}
		return bad(line, "%s%s", printable(syntax.GetMessage()), advice)
	case err != nil:
		return bad(0, "%s", printable(err.Error()))
	case len(file.Docs) == 0 || file.Docs[0].Body == nil:
		return bad(1, "the file is empty")
	case len(file.Docs) > 1:
		return bad(1, "the file has %d documents; must be one", len(file.Docs))
	}
	root, ok := file.Docs[0].Body.(ast.MapNode)
	if !ok {
		return bad(begin(file.Docs[0].Body).Line, "the file must be a mapping, with name and so on")
	}
	return root, nil
}

// sameNames returns an error for each scenario with the name of another one.
// Reports and --focus tell scenarios apart by name.
func sameNames(all []Scenario) (errs []error) {
	first := map[string]*Scenario{}
	for i := range all {
		s := &all[i]
		other := first[s.Name]
		if other == nil {
			first[s.Name] = s
			continue
		}
		errs = append(errs, fmt.Errorf("%s: name %s is also that of %s; it must say what differs",
			s.Location(), quote(s.Name), other.Location()))
	}
	return errs
}
