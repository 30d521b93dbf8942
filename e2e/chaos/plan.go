package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Task is one that the suite submits.
type Task struct {
	ID       string
	Kind     string
	Lasts    time.Duration
	GPUs     int
	Fails    int // so many attempts end with status 1
	Attempts int // after so many failures it is a dead letter
}

// Strike is one fault of the plan.
type Strike struct {
	Kind   string
	Number int           // among all of the plan
	Runner int           // that it is about, if it is about one
	Lasts  time.Duration // until it is undone
	Victim string        // a task of this kind should run when it strikes
	Dice   uint64        // for what else there is to choose
}

// Plan is what a seed stands for.
type Plan struct {
	Seed    uint64
	Tasks   []Task
	Strikes []Strike
}

// Size is what a plan is made for.
type Size struct {
	Tasks, Strikes, Runners int
}

// taskKind says how tasks of a kind are drawn: how often, how long, how they fail.
type taskKind struct {
	name     string
	weight   int
	from, to time.Duration
	fails    int
	attempts int
}

var taskKinds = []taskKind{
	{"short", 30, 50 * time.Millisecond, 400 * time.Millisecond, 0, 3},
	{"long", 8, 2 * time.Second, 5 * time.Second, 0, 3},
	{"failing", 10, 50 * time.Millisecond, 500 * time.Millisecond, 99, 2},
	{"flaky", 8, 50 * time.Millisecond, 500 * time.Millisecond, 1, 20}, // its first start may be no attempt
	{"daemon", 10, 50 * time.Millisecond, 800 * time.Millisecond, 0, 3},
	{"disk", 8, 200 * time.Millisecond, time.Second, 0, 20},
	{"memory", 6, 200 * time.Millisecond, time.Second, 0, 3},
	{"processes", 8, 200 * time.Millisecond, time.Second, 0, 3},
	{"deaf", 6, time.Second, 4 * time.Second, 0, 3},
}

// NewPlan draws the plan. Each kind of fault comes as often as any other, with each
// kind of task in turn.
func NewPlan(seed uint64, size Size, faults []fault) Plan {
	r := rand.New(rand.NewPCG(seed, 11))
	p := Plan{Seed: seed}
	total := 0
	for _, k := range taskKinds {
		total += k.weight
	}
	for i := range size.Tasks {
		n, at := r.IntN(total), 0
		for n >= taskKinds[at].weight {
			n -= taskKinds[at].weight
			at++
		}
		k := taskKinds[at]
		p.Tasks = append(p.Tasks, Task{
			ID: fmt.Sprintf("%s-%05d", k.name, i), Kind: k.name, Lasts: k.from + time.Duration(r.Int64N(int64(k.to-k.from))),
			GPUs: []int{0, 0, 0, 1, 2}[r.IntN(5)], Fails: k.fails, Attempts: k.attempts,
		})
	}
	for i := range size.Strikes {
		f := faults[i%len(faults)]
		p.Strikes = append(p.Strikes, Strike{
			Kind: f.name, Runner: r.IntN(size.Runners), Lasts: f.from + time.Duration(r.Int64N(int64(f.to-f.from)+1)),
			Victim: taskKinds[(i/len(faults)+i%len(faults))%len(taskKinds)].name, Dice: r.Uint64(),
		})
	}
	r.Shuffle(len(p.Strikes), func(i, j int) { p.Strikes[i], p.Strikes[j] = p.Strikes[j], p.Strikes[i] })
	for i := range p.Strikes {
		p.Strikes[i].Number = i
	}
	return p
}

// chosen are the faults whose name begins with one of the words, and those that need
// no more rights than there are.
func chosen(queue string, words []string, root bool) (list []fault, skipped []string) {
	for _, f := range faults[queue] {
		switch {
		case len(words) > 0 && !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(f.name, w) }):
		case f.root && !root:
			skipped = append(skipped, f.name)
		default:
			list = append(list, f)
		}
	}
	return list, skipped
}
