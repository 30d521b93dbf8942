package spool

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// entry is what the name of a task's file says. Times are microseconds since 1970.
type entry struct {
	bucket
	key     int64 // the time of its submit, or later if others came at the same; orders the bucket
	starts  int   // how often the task was started; numbers the attempts
	deaths  int   // starts whose runner died, and one more while a runner has the task started
	spent   int   // attempts held against the task; never more than starts
	expires int64 // the second since 1970 after which it must not start; 0 for none
	id      string
}

// bucket is what the name of a directory of ready/ says: some hundred entries of one
// class and priority that were submitted one after the other, or all whose pause ends
// in the same second.
type bucket struct {
	rank   int   // from the highest priority, which is 0
	from   int64 // when it was begun; orders those of a rank
	pauses int   // 1 if nothing of it may start before. Else from is an order and no time: clocks may be set back
	class  api.Resources
}

// due says whether what is in it may start.
func (b bucket) due(now time.Time) bool { return b.pauses == 0 || b.from <= now.UnixMicro() }

// order is the part of the names by which they are sorted.
func (b bucket) order() string { return fmt.Sprintf("%02d-%016d-%d", b.rank, b.from, b.pauses) }

func (b bucket) name() string {
	return fmt.Sprintf("%s-%d-%d", b.order(), b.class.GPUs, uint64(b.class.GPUMemory))
}

// parseBucket is the inverse of name.
func parseBucket(name string) (b bucket, ok bool) {
	n, _ := numbers(name, 5)
	b = bucket{int(n[0]), n[1], int(n[2]), api.Resources{GPUs: int(n[3]), GPUMemory: api.Bytes(n[4])}}
	return b, b.name() == name
}

// numbers reads those that a name begins with, quickly, as many may wait. What is none
// does not give the name again.
func numbers(name string, count int) (all []int64, rest string) {
	all = make([]int64, count)
	for i := range all {
		var text string
		text, name, _ = strings.Cut(name, "-")
		all[i], _ = strconv.ParseInt(text, 10, 64)
	}
	return all, name
}

// name sorts as the tasks start.
func (e entry) name() string {
	return fmt.Sprintf("%s-%016d-%d-%d-%d-%d-%d-%d-%s.json", e.order(), e.key,
		e.class.GPUs, uint64(e.class.GPUMemory), e.starts, e.deaths, e.spent, e.expires, e.id)
}

// parseName is the inverse of name.
func parseName(name string) (e entry, ok bool) {
	n, id := numbers(strings.TrimSuffix(name, ".json"), 10)
	e = entry{bucket{int(n[0]), n[1], int(n[2]), api.Resources{GPUs: int(n[4]), GPUMemory: api.Bytes(n[5])}},
		n[3], int(n[6]), int(n[7]), int(n[8]), n[9], id}
	return e, e.name() == name && e.spent <= e.starts && validID(id)
}

// of is the entry with what the document of its task says.
func (e entry) of(t *api.Task) entry {
	e.rank, e.class, e.id, e.expires = api.MaxTaskPriority-t.Priority, t.Resources, t.ID, 0
	if !t.Expires.IsZero() {
		e.expires = max(t.Expires.Unix(), 1) // names have no sign
	}
	return e
}

// begun is the entry after one more start. Until the runner says how that ended,
// it counts as a death: nobody could count it then.
func (e entry) begun() entry {
	e.starts++
	e.deaths++
	return e
}

// ended is the entry of a start that has ended while its runner lived.
func (e entry) ended(spent bool) entry {
	e.deaths--
	if spent {
		e.spent++
	}
	return e
}

// expired says why the task must not start any more, and nothing if it may.
func (e entry) expired(now time.Time) string {
	if end := time.Unix(e.expires, 0).UTC(); e.expires != 0 && now.After(end) {
		return "it expired at " + end.Format(time.RFC3339)
	}
	return ""
}

// read reads the document of an entry.
func (e entry) read(document []byte) (*api.Task, error) {
	task, err := parse(e.id, document)
	if err == nil && e.of(task) != e {
		err = errors.New("file name says other than the task document")
	}
	return task, err
}
