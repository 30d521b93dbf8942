package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// readAccepted reads the faults that may survive, each with its reason: a line
// with the fault's name, and an indented one for the reason.
func readAccepted(path string, all []fault) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	accepted := make(map[string]string)
	last := ""
	for i, line := range strings.Split(string(text), "\n") {
		wrong := func(what string) error { return fmt.Errorf("%s:%d: %s", path, i+1, what) }
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "\t"):
			if last == "" {
				return nil, wrong("a reason follows the name of a fault")
			}
			accepted[last] += strings.TrimSpace(line) + " "
		case last != "" && accepted[last] == "":
			return nil, wrong("the fault before has no reason; write it on an indented line")
		case !slices.ContainsFunc(all, func(f fault) bool { return f.key == line }):
			return nil, wrong("there is no such fault any more; remove it, or look for its new name with --list")
		default:
			last, accepted[line] = line, ""
		}
	}
	if last != "" && accepted[last] == "" {
		return nil, fmt.Errorf("%s: the last fault has no reason; write it on an indented line", path)
	}
	return accepted, nil
}

// most is the part of the faults that may survive, in percent.
const most = 5

// report prints what became of the faults, and returns an error if the tests
// are not good enough.
func report(out io.Writer, all []mutant, accepted map[string]string) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "package\tfaults\tkilled\ttimed out\tsurvived\taccepted\t")
	counts := make(map[string]*[5]int)
	var slow, alive []string
	unexpected, survivors := 0, 0
	for _, m := range all {
		for _, row := range []string{m.pkg, "together"} {
			if counts[row] == nil {
				counts[row] = new([5]int)
			}
			counts[row][0]++
			switch m.verdict {
			case killed:
				counts[row][1]++
			case timedOut:
				counts[row][2]++
			default:
				counts[row][3]++
				if accepted[m.key] != "" {
					counts[row][4]++
				}
			}
		}
		_, change, _ := strings.Cut(m.key, " ")
		file, _, _ := strings.Cut(m.key, " ")
		what := fmt.Sprintf("%s:%d: %s", file, m.line, change)
		switch m.verdict {
		case timedOut:
			slow = append(slow, what)
		case killed:
			if accepted[m.key] != "" {
				fmt.Fprintf(out, "%s\n\tis accepted as a survivor and was noticed now\n", what)
			}
		default:
			survivors++
			if reason := accepted[m.key]; reason != "" {
				what += "\n\taccepted: " + reason
			} else {
				unexpected++
				what += "\n\t" + verdicts[m.verdict]
			}
			alive = append(alive, what)
		}
	}
	if len(slow) > 0 {
		fmt.Fprintf(out, "Noticed by a test that did not end in its time:\n%s\n\n", strings.Join(slow, "\n"))
	}
	if len(alive) > 0 {
		fmt.Fprintf(out, "Survived:\n%s\n\n", strings.Join(alive, "\n"))
	}
	for _, a := range append(slices.Clone(areas), area{pkg: "together"}) {
		if n := counts[a.pkg]; n != nil {
			fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t\n", a.pkg, n[0], n[1], n[2], n[3], n[4])
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	switch {
	case unexpected > 0:
		return fmt.Errorf("%d faults survive; write a test that fails with each, or say in accepted.txt why none can", unexpected)
	case len(all) >= 200 && survivors*100 > most*len(all):
		return fmt.Errorf("%d of %d faults survive, allowed are %d%%", survivors, len(all), most)
	case len(all) == 0:
		return errors.New("no fault is chosen")
	}
	return nil
}
