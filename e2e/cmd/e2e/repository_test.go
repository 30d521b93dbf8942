package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/e2e/catalogue"
)

// The tests here are about the repository itself.
const root = "../../.."

func TestScenarioFilesAreRight(t *testing.T) {
	if _, err := whatShows(root); err != nil {
		t.Error(err)
	}
}

// missing returns the rows that nothing shows.
func missing(shown map[catalogue.Row][]witness) []catalogue.Entry {
	var rows []catalogue.Entry
	for _, row := range catalogue.Rows {
		if len(shown[row.Number]) == 0 {
			rows = append(rows, row)
		}
	}
	return rows
}

// Every row of the catalogue that can be shown has a scenario or a marked test.
func TestEveryRowIsShown(t *testing.T) {
	shown, err := whatShows(root)
	if err != nil {
		t.Skip("TestScenarioFilesAreRight says why: the files cannot be read")
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

func TestCatalogueIsUpToDate(t *testing.T) {
	code, _, stderr := command(t, root, "catalogue", "--check")
	if code != 0 {
		t.Error(stderr)
	}
}
