package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/e2e/catalogue"
	"github.com/studioml/studio-go-runner/e2e/engine"
)

// repository is the root of it, which the tests here are about.
const repository = "../../.."

func TestScenariosAreRight(t *testing.T) {
	t.Chdir(repository)
	if code, _, stderr := command(); code != 0 {
		t.Error(stderr)
	}
}

// missing returns the rows that nothing shows.
func missing(shown map[witness]int) []catalogue.Entry {
	there := map[catalogue.Row]bool{}
	for w := range shown {
		there[w.row] = true
	}
	return slices.DeleteFunc(slices.Clone(catalogue.Rows), func(e catalogue.Entry) bool { return there[e.Number] })
}

// Every row of the catalogue that can be shown has a scenario or a marked test.
func TestEveryRowIsShown(t *testing.T) {
	t.Chdir(repository)
	all, err := engine.Format.LoadDir("scenarios")
	if err != nil {
		t.Skip("TestScenariosAreRight says why: the files cannot be read")
	}
	shown, err := whatShows(all)
	if err != nil {
		t.Skip("TestScenariosAreRight says why: the marks cannot be read")
	}
	var lines []string
	for _, row := range missing(shown) {
		lines = append(lines, fmt.Sprintf("row %d: %s", row.Number, row.Title))
	}
	if len(lines) > 0 {
		t.Errorf("%d rows are shown by no scenario and no test marked // catalogue: row n\n%s",
			len(lines), strings.Join(lines, "\n"))
	}
}
