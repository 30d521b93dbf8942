package mutants

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// most is the part of the faults that may survive, in percent.
const most = 5

// report prints what became of the faults, and returns an error if the tests
// are not good enough.
func report(out io.Writer, areas []*area) error {
	together, played := make(map[verdict]int), 0
	var lines []string
	for _, a := range areas {
		counts := make(map[verdict]int)
		for _, f := range a.faults {
			counts[f.verdict]++
			together[f.verdict]++
			if f.verdict == unplayed {
				continue
			}
			if played++; f.verdict != killed || f.reason != "" {
				fmt.Fprintf(out, "%s\n\t%s %s\n", f, f.verdict, f.reason)
			}
		}
		lines = append(lines, fmt.Sprintf("%-30s %v\n", a.Package, counts))
	}
	slices.Sort(lines)
	fmt.Fprintf(out, "%s%-30s %v\n", strings.Join(lines, ""), "together", together)
	switch {
	case played == 0:
		return errors.New("no fault is chosen")
	case together[survived] > 0:
		return fmt.Errorf("%d faults survive; write a test that fails with each, or say in areas.yaml why none can", together[survived])
	case played >= 200 && together[accepted]*100 > most*played:
		return fmt.Errorf("%d of %d faults survive; must be at most %d%%", together[accepted], played, most)
	}
	return nil
}
