package spool

import (
	"errors"
	"fmt"
	"regexp"
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
	rank  int   // from the highest priority, which is 0
	from  int64 // when it was begun; orders those of a rank
	pause bool  // until then, nothing of it may start. Else from is an order and no time: clocks may be set back
	class api.Resources
}

// due says whether what is in it may start.
func (b bucket) due(now time.Time) bool { return !b.pause || b.from <= now.UnixMicro() }

// order is the part of the names by which they are sorted.
func (b bucket) order() string {
	if b.pause {
		return fmt.Sprintf("%02d-%016dp", b.rank, b.from)
	}
	return fmt.Sprintf("%02d-%016d", b.rank, b.from)
}

func (b bucket) name() string {
	return fmt.Sprintf("%s-%d-%d", b.order(), b.class.GPUs, uint64(b.class.GPUMemory))
}

// name is the inverse of parseName. Names sort in the order in which the tasks start.
func (e entry) name() string {
	return fmt.Sprintf("%s-%016d-%d-%d-%d-%d-%d-%d-%s.json", e.order(), e.key,
		e.class.GPUs, uint64(e.class.GPUMemory), e.starts, e.deaths, e.spent, e.expires, e.id)
}

// of is the entry with what the document of its task says.
func (e entry) of(t *api.Task) entry {
	e.rank, e.class, e.id, e.expires = api.MaxTaskPriority-t.Priority, t.Resources, t.ID, 0
	if !t.Expires.IsZero() {
		e.expires = t.Expires.Unix()
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

var (
	bucketName = regexp.MustCompile(`^(\d{2})-(\d{16})(p?)-(\d{1,9})-(\d{1,19})$`)
	entryName  = regexp.MustCompile(`^(\d{2})-(\d{16})(p?)-(\d{16})-(\d{1,9})-(\d{1,19})-(\d{1,9})-(\d{1,9})-(\d{1,9})-(\d{1,11})-(.+)\.json$`)
)

// number reads what is a number by the regular expressions above.
func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64) // one that is too large does not give its name again
	return n
}

func newBucket(rank, from, pause, gpus, memory string) bucket {
	return bucket{int(number(rank)), number(from), pause != "", api.Resources{GPUs: int(number(gpus)), GPUMemory: api.Bytes(number(memory))}}
}

func parseBucket(name string) (b bucket, ok bool) {
	m := bucketName.FindStringSubmatch(name)
	if m == nil {
		return bucket{}, false
	}
	b = newBucket(m[1], m[2], m[3], m[4], m[5])
	return b, b.name() == name
}

func parseName(name string) (entry, error) {
	if m := entryName.FindStringSubmatch(name); m != nil {
		e := entry{newBucket(m[1], m[2], m[3], m[5], m[6]), number(m[4]), int(number(m[7])), int(number(m[8])), int(number(m[9])), number(m[10]), m[11]}
		if e.name() == name && e.spent <= e.starts {
			return e, nil
		}
	}
	return entry{}, fmt.Errorf("file name %s is not one that submit gives; put tasks into the queue with the command submit", api.Excerpt(name))
}

// shorten keeps what came from a document in the hundreds of bytes. The texts
// are those of errors, in which values are escaped already.
func shorten(text string) string {
	const limit = 600
	if len(text) <= limit {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(text[:limit], ""), len(text))
}

// readEntry reads a file of ready/ or of a claim.
func readEntry(path, name string) (entry, *api.Task, error) {
	document, err := readFile(path, api.MaxTaskBytes)
	if err != nil {
		return entry{}, nil, err
	}
	e, err := parseName(name)
	var task *api.Task
	if err == nil {
		if task, err = parse(e.id, document); err == nil && e.of(task) != e {
			err = errors.New("file name says other than the task document")
		}
	}
	if err != nil {
		return entry{}, nil, &badDocument{err, document}
	}
	return e, task, nil
}
