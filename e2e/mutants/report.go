package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"sigs.k8s.io/yaml"
)

// accept reads the faults that may survive, each with its reason.
func accept(path string, all []*fault) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var reasons map[string]string
	if err := yaml.UnmarshalStrict(text, &reasons); err != nil {
		return fmt.Errorf("%s: %w", path, err)
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
func report(out io.Writer, all []*fault) error {
	together := make(map[verdict]int)
	counts := map[string]map[verdict]int{"together": together}
	for _, f := range all {
		if counts[f.pkg] == nil {
			counts[f.pkg] = make(map[verdict]int)
		}
		became := f.verdict
		if became == survived && f.reason != "" {
			became = "accepted"
		}
		counts[f.pkg][became]++
		together[became]++
		if became != unplayed && (became != killed || f.reason != "") {
			fmt.Fprintf(out, "%s\n\t%s %s\n", f, became, f.reason)
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(out, "%-30s %v\n", pkg, counts[pkg])
	}
	played := len(all) - together[unplayed]
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
