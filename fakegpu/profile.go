package fakegpu

import (
	"embed"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// The figures and their sources are in profiles/.
//
//go:embed profiles/*.yaml
var profiles embed.FS

// Profiles lists the names of the models.
func Profiles() []string {
	entries, err := profiles.ReadDir("profiles")
	if err != nil {
		panic(err) // they are part of the program
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// LoadProfile returns a GPU of the model of that name, or of a file that ends in
// .yaml, without what tells it from others of its model and without what it does. A profile has the keys of
// a state file.
func LoadProfile(name string) (GPU, error) {
	g := GPU{Numbers: make(map[string]uint64)}
	read := profiles.ReadFile
	file := "profiles/" + name + ".yaml"
	if strings.HasSuffix(name, ".yaml") {
		read, file = os.ReadFile, name
	} else if !slices.Contains(Profiles(), name) {
		return g, fmt.Errorf("profile is %q, must be %s, or a file that ends in .yaml", name, strings.Join(Profiles(), ", "))
	}
	content, err := read(file)
	if err != nil {
		return g, fmt.Errorf("read profile %s: %w", name, err)
	}
	if err := g.describe(content); err != nil {
		return g, fmt.Errorf("read profile %s: %w", name, err)
	}
	return g, nil
}

// Fit returns the numbers of a profile, those of which that are free to follow the
// others doing so: a real card changes while it is read.
func Fit(profile []byte, free ...string) (map[string]uint64, error) {
	g := GPU{Numbers: make(map[string]uint64)}
	if err := g.describe(profile); err != nil {
		return nil, err
	}
	err := g.complete(free...)
	return g.Numbers, err
}

// own are the keys that tell a GPU from others of its model.
var own = []string{"bus", "minor", "module", "numa", "pcie_switch", "lost", "energy", "since", "counted_from"}

// describe takes the values of a profile.
func (g *GPU) describe(content []byte) error {
	var values map[string]any
	if err := yaml.UnmarshalStrict(content, &values); err != nil {
		return err
	}
	for key, value := range values {
		text := fmt.Sprint(value)
		if n, ok := value.(float64); ok { // JSON's only number, exact up to 2^53
			text = strconv.FormatFloat(n, 'f', -1, 64) // with its fraction, which set refuses
		}
		if err := g.set(key, text); err != nil {
			return err
		}
	}
	for _, key := range own {
		if _, ok := g.Numbers[key]; ok {
			return fmt.Errorf("%s is no figure of a model: it tells one GPU from another", key)
		}
	}
	return nil
}

// clone returns a copy that shares nothing.
func (g GPU) clone() GPU {
	g.Numbers = maps.Clone(g.Numbers)
	return g
}
