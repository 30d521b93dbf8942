package mutants

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// accept reads the faults that may survive, each with its reason.
func accept(path string, areas []*area) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var reasons map[string]string
	if err := yaml.UnmarshalStrict(text, &reasons); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var all []*fault
	for _, a := range areas {
		all = append(all, a.faults...)
	}
	for key, reason := range reasons {
		i := slices.IndexFunc(all, func(f *fault) bool { return f.key == key })
		if i < 0 || reason == "" {
			return fmt.Errorf("%s: %s: there is no such fault any more, or no reason; look for its new name with --list", path, key)
		}
		all[i].reason = reason
	}
	return nil
}

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
			became := f.verdict
			if became == survived && f.reason != "" {
				became = "accepted"
			}
			counts[became]++
			together[became]++
			if became == unplayed {
				continue
			}
			if played++; became != killed || f.reason != "" {
				fmt.Fprintf(out, "%s\n\t%s %s\n", f, became, f.reason)
			}
		}
		lines = append(lines, fmt.Sprintf("%-30s %v\n", a.pkg, counts))
	}
	slices.Sort(lines)
	fmt.Fprintf(out, "%s%-30s %v\n", strings.Join(lines, ""), "together", together)
	switch {
	case played == 0:
		return errors.New("no fault is chosen")
	case together[survived] > 0:
		return fmt.Errorf("%d faults survive; write a test that fails with each, or say in accepted.yaml why none can", together[survived])
	case played >= 200 && together["accepted"]*100 > most*played:
		return fmt.Errorf("%d of %d faults survive; must be at most %d%%", together["accepted"], played, most)
	}
	return nil
}
