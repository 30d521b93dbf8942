package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// calm is the least share of the tasks that must have run while a fault struck.
const calm = 0.3

// report prints the table of faults and tasks and what of the plan there was no time
// for, and returns the cells that are empty and the share of tasks that ran when a fault
// struck.
func report(out io.Writer, r *Record, plan Plan) (empty []string, share float64) {
	kinds := map[string]string{}
	for _, t := range r.Tasks {
		kinds[t.ID] = t.Kind
	}
	struck := map[string]bool{}
	cells := map[string]map[string]int{}
	attempts := r.attempts()
	for _, s := range r.Struck {
		if cells[s.Kind] == nil {
			cells[s.Kind] = map[string]int{}
		}
		row := cells[s.Kind]
		row[""]++
		for _, a := range attempts {
			if a.Start <= s.Begin && a.ended() >= s.Begin {
				row[kinds[a.Task]]++
				struck[a.Task] = true
			}
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "tasks that ran when it struck\tstrikes\t")
	for _, k := range taskKinds {
		fmt.Fprint(table, k.name, "\t")
	}
	fmt.Fprintln(table)
	for _, name := range slices.Sorted(maps.Keys(cells)) {
		fmt.Fprintf(table, "%s\t%d\t", name, cells[name][""])
		for _, k := range taskKinds {
			fmt.Fprintf(table, "%d\t", cells[name][k.name])
			if cells[name][k.name] == 0 {
				empty = append(empty, name+" × "+k.name)
			}
		}
		fmt.Fprintln(table)
	}
	table.Flush()
	share = float64(len(struck)) / float64(max(1, len(r.Tasks)))
	starts, codes := len(attempts), map[string]int{}
	for _, l := range r.Lives {
		code := fmt.Sprint(l.Code)
		if l.Killed != 0 {
			code = l.Killed.String()
		}
		codes[code]++
	}
	never := map[string]bool{}
	for _, s := range plan.Strikes {
		if cells[s.Kind] == nil {
			never[s.Kind] = true
		}
	}
	if late, unsaid := len(plan.Strikes)-len(r.Struck), len(plan.Tasks)-len(r.Tasks); late > 0 || unsaid > 0 {
		fmt.Fprintf(out, "the time was over before %d of %d strikes and %d of %d tasks", late, len(plan.Strikes), unsaid, len(plan.Tasks))
		if len(never) > 0 {
			fmt.Fprintf(out, "; never struck: %s", strings.Join(slices.Sorted(maps.Keys(never)), ", "))
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "%d tasks, %d starts, %d dead letters; %d strikes; %d lives of runners, by how they ended: %s; %.0f %% of the tasks ran when a fault struck\n",
		len(r.Tasks), starts, len(r.Dead), len(r.Struck), len(r.Lives), strings.TrimPrefix(fmt.Sprint(codes), "map"), 100*share)
	return empty, share
}
