// Package catalogue is the rows of the contract that are shown by tests.
package catalogue

import (
	_ "embed"
	"fmt"

	"sigs.k8s.io/yaml"
)

// Row is the number of a row.
type Row int

// Entry is one row.
type Entry struct {
	Number Row
	// Part is the heading that the row stands under.
	Part string
	// Title says in a few words what is shown.
	Title string
}

//go:embed catalogue.yaml
var file []byte

// Rows are all that are shown, in order, and Last is the last of them.
var (
	Rows = rows()
	Last = Rows[len(Rows)-1].Number
)

// Title says in a few words what is shown.
func (r Row) Title() string { return Rows[r-1].Title }

func rows() (all []Entry) {
	var parts []struct {
		Part  string
		First Row
		Rows  []string
	}
	if err := yaml.UnmarshalStrict(file, &parts); err != nil {
		panic(fmt.Sprintf("catalogue.yaml: %v", err))
	}
	for _, p := range parts {
		for i, title := range p.Rows {
			all = append(all, Entry{p.First + Row(i), p.Part, title})
		}
	}
	return all
}
