package spool

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
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

// due says whether what is in it may start. No pause is so long as one that a clock has
// made which was far ahead.
func (b bucket) due(now time.Time) bool {
	return b.pauses == 0 || b.from <= now.UnixMicro() || b.from > now.Add(2*queue.LongestPause).UnixMicro()
}

// order is the part of the names by which they are sorted.
func (b bucket) order() string { return fmt.Sprintf("%02d-%016d-%d", b.rank, b.from, b.pauses) }

func (b bucket) name() string {
	return fmt.Sprintf("%s-%d-%d", b.order(), b.class.GPUs, uint64(b.class.GPUMemory))
}

// parseBucket is the inverse of name.
func parseBucket(name string) (b bucket, ok bool) {
	n, rest, ok := numbers(name, 2, 16, 1, 1, 1)
	if !ok || len(rest) > 0 {
		return bucket{}, false
	}
	return bucket{int(n[0]), n[1], int(n[2]), api.Resources{GPUs: int(n[3]), GPUMemory: api.Bytes(n[4])}}, true
}

// numbers reads those that a name begins with, written with so many digits at least, and
// no more than they need. It is quick, as many may wait.
func numbers(name string, digits ...int) (all []int64, rest []string, ok bool) {
	texts := strings.SplitN(name, "-", len(digits)+1)
	if len(texts) < len(digits) {
		return nil, nil, false
	}
	all = make([]int64, 0, len(digits))
	for i, least := range digits {
		n, err := strconv.ParseUint(texts[i], 10, 63)
		if size := len(texts[i]); err != nil || size < least || size > least && texts[i][0] == '0' {
			return nil, nil, false
		}
		all = append(all, int64(n))
	}
	return all, texts[len(digits):], true
}

// name sorts as the tasks start.
func (e entry) name() string {
	return fmt.Sprintf("%s-%016d-%d-%d-%d-%d-%d-%d-%s.json", e.order(), e.key,
		e.class.GPUs, uint64(e.class.GPUMemory), e.starts, e.deaths, e.spent, e.expires, e.id)
}

// parseName is the inverse of name.
func parseName(name string) (e entry, ok bool) {
	text, isJSON := strings.CutSuffix(name, ".json")
	n, rest, ok := numbers(text, 2, 16, 1, 16, 1, 1, 1, 1, 1, 1)
	if !ok || !isJSON || len(rest) == 0 {
		return entry{}, false
	}
	e = entry{bucket{int(n[0]), n[1], int(n[2]), api.Resources{GPUs: int(n[4]), GPUMemory: api.Bytes(n[5])}},
		n[3], int(n[6]), int(n[7]), int(n[8]), n[9], rest[0]}
	return e, e.spent <= e.starts && validID(e.id)
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
