package scenario

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
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
	var errs []error
	err = fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		shown, ending := path.Join(base, name), path.Ext(name)
		switch {
		case err != nil || entry.IsDir() || ending != ".yaml" && ending != ".yml":
			return err
		case ending == ".yml":
			errs = append(errs, &Problem{shown, 0, "is not read, the ending must be .yaml"})
			return nil
		case strings.Count(name, "/") != 1:
			errs = append(errs, &Problem{shown, 0, "is in the wrong place, scenarios are in " + path.Join(base, "<area>", "<file>.yaml")})
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		some, err := f.Parse(shown, text)
		if err != nil {
			errs = append(errs, err)
		}
		all = append(all, some...)
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

// Parse reads the scenarios in the text of one file; name is the path that the
// scenarios and the errors carry.
func (f *Format) Parse(name string, text []byte) ([]Scenario, error) {
	root, err := parseYAML(name, text)
	if err != nil {
		return nil, err
	}
	all, err := f.expand(name, root)
	if err != nil {
		return nil, err
	}
	if errs := sameNames(all); errs != nil {
		return nil, errors.Join(errs...)
	}
	return all, nil
}

// sameNames returns an error for each scenario with the name of another one.
// Reports and --focus tell scenarios apart by name.
func sameNames(all []Scenario) (errs []error) {
	first, told := map[string]*Scenario{}, map[string]bool{}
	for i := range all {
		s := &all[i]
		other := first[s.Name]
		if other == nil {
			first[s.Name] = s
			continue
		}
		text := fmt.Sprintf("name %s is also that of %s", quote(s.Name), other.Location())
		if other.Path == s.Path {
			text = fmt.Sprintf("name %s is that of two combinations of the matrix; it must say what differs", quote(s.Name))
		}
		if !told[text] {
			told[text] = true
			errs = append(errs, &Problem{s.Path, s.Line, text})
		}
	}
	return errs
}
