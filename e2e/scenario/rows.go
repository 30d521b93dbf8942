package scenario

import (
	_ "embed"
	"fmt"

	"sigs.k8s.io/yaml"
)

// Row is the number of a row of the catalogue (contract, section 4).
type Row int

// Entry is one row of the catalogue.
type Entry struct {
	Number Row
	// Part is the heading that the row stands under.
	Part string
	// Title says in a few words what is shown.
	Title string
}

//go:embed catalogue.yaml
var catalogueFile []byte

// Catalogue is all rows that are shown, in order, and MaxRow the last of them.
var (
	Catalogue = catalogue()
	MaxRow    = Catalogue[len(Catalogue)-1].Number
)

// Title says in a few words what is shown; it is empty for a row that is not.
func (r Row) Title() string {
	for _, e := range Catalogue {
		if e.Number == r {
			return e.Title
		}
	}
	return ""
}

func catalogue() []Entry {
	var parts []struct {
		Part  string
		First Row
		Rows  []string
	}
	if err := yaml.UnmarshalStrict(catalogueFile, &parts); err != nil {
		panic(fmt.Sprintf("scenario: catalogue.yaml: %v", err))
	}
	var rows []Entry
	for _, p := range parts {
		for i, title := range p.Rows {
			rows = append(rows, Entry{p.First + Row(i), p.Part, title})
		}
	}
	return rows
}
