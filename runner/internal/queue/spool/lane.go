package spool

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
)

// A bucket holds about this many entries, so that whoever looks for work, or for
// the end of a lane, reads few names however many wait.
const bucketSize = 256

// lane is where the tasks of one class and priority wait: directories of entries,
// named by the key from which their entries count.
type lane struct {
	class    string
	priority string // of two digits, the highest is 00
}

func laneOf(t *api.Task) lane {
	return lane{className(t.Resources), fmt.Sprintf("%02d", api.MaxTaskPriority-t.Priority)}
}

func (l lane) path(s *Spool, elements ...string) string {
	return s.path(append([]string{readyDir, l.class, l.priority}, elements...)...)
}

func className(c api.Resources) string { return fmt.Sprintf("%d-%d", c.GPUs, uint64(c.GPUMemory)) }

func parseClass(name string) (c api.Resources, ok bool) {
	gpus, memory, _ := strings.Cut(name, "-")
	n, err1 := strconv.Atoi(gpus)
	m, err2 := strconv.ParseUint(memory, 10, 64)
	c = api.Resources{GPUs: n, GPUMemory: api.Bytes(m)}
	return c, errors.Join(err1, err2) == nil && className(c) == name
}

// lanes lists all, those of one priority beside each other, the highest first.
func (s *Spool) lanes() (lanes []lane, err error) {
	classes, err := dirNames(s.path(readyDir))
	for _, class := range classes {
		priorities, err := dirNames(s.path(readyDir, class))
		if err != nil && !missing(err) {
			return nil, err
		}
		for _, p := range priorities {
			lanes = append(lanes, lane{class, p})
		}
	}
	slices.SortStableFunc(lanes, func(a, b lane) int { return strings.Compare(a.priority, b.priority) })
	return lanes, err
}

// pauseMark ends the name of a bucket whose entries must not start before the time
// that it is named by. Without it a key is an order and no time, for clocks may be
// set back.
const pauseMark = "-pause"

type bucket struct {
	name  string
	from  int64
	pause bool
}

func newBucket(from int64, pause bool) bucket {
	b := bucket{fmt.Sprintf("%020d", from), from, pause}
	if pause {
		b.name += pauseMark
	}
	return b
}

// due says whether its entries may start.
func (b bucket) due(now time.Time) bool { return !b.pause || b.from <= now.UnixNano() }

// buckets lists those of a lane, in order.
func (l lane) buckets(s *Spool) ([]bucket, error) {
	names, err := dirNames(l.path(s))
	var all []bucket
	for _, name := range names {
		text, pause := strings.CutSuffix(name, pauseMark)
		if from, err := strconv.ParseInt(text, 10, 64); err == nil && newBucket(from, pause).name == name {
			all = append(all, bucket{name, from, pause})
		}
	}
	return all, err
}

// dueBuckets lists those whose entries may start. A lane that is not there has none.
func (l lane) dueBuckets(s *Spool) ([]bucket, error) {
	all, err := l.buckets(s)
	if missing(err) {
		return nil, nil
	}
	now := time.Now()
	return slices.DeleteFunc(all, func(b bucket) bool { return !b.due(now) }), err
}

// end returns the bucket for what comes next, its key, and for how many entries
// the bucket has room. The caller holds the lock of the submits.
func (l lane) end(s *Spool) (b bucket, key int64, room int, err error) {
	key = time.Now().UnixNano()
	due, err := l.dueBuckets(s)
	if err != nil {
		return bucket{}, 0, 0, err
	}
	if len(due) == 0 {
		return newBucket(key, false), key, bucketSize, nil
	}
	b = due[len(due)-1]
	names, err := fileNames(l.path(s, b.name))
	if err != nil && !missing(err) {
		return bucket{}, 0, 0, err
	}
	key = max(key, b.from+1)
	for _, name := range slices.Backward(names) {
		if e, err := parseName(name); err == nil {
			key = max(key, e.key+1)
			break
		}
	}
	if len(names) >= bucketSize {
		return newBucket(key, false), key, bucketSize, nil
	}
	return b, key, bucketSize - len(names), nil
}

// place returns the bucket for a key that was given before.
func (l lane) place(s *Spool, key int64) (bucket, error) {
	due, err := l.dueBuckets(s)
	if err != nil || len(due) == 0 {
		return newBucket(key, false), err
	}
	i, found := slices.BinarySearchFunc(due, key, func(b bucket, key int64) int { return cmp.Compare(b.from, key) })
	if !found {
		i = max(i-1, 0)
	}
	return due[i], nil
}

// enter lets put make an entry in a bucket, which it makes if need be, and makes
// all of that durable. Buckets that are empty are removed by others at any moment.
func (s *Spool) enter(l lane, b bucket, put func(dir string) error) error {
	dir := l.path(s, b.name)
	for {
		if err := s.prepare(l, dir); err != nil {
			return err
		}
		err := put(dir)
		if missing(err) {
			if _, gone := os.Lstat(dir); missing(gone) {
				continue
			}
		}
		if err != nil {
			return err
		}
		return syncDirs(dir)
	}
}

// prepare makes a bucket. What others have made may not be durable yet, so it is
// made so by everybody, once.
func (s *Spool) prepare(l lane, dir string) error {
	var stat unix.Stat_t
	err := unix.Lstat(dir, &stat)
	s.mu.Lock()
	known := err == nil && s.durable[dir] == stat.Ino
	s.mu.Unlock()
	if known {
		return nil
	}
	parents := []string{s.path(readyDir), s.path(readyDir, l.class), l.path(s)}
	for _, path := range append(parents[1:], dir) { // not the queue: one that is gone is not made anew
		if err := makeDir(path); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := errors.Join(syncDirs(parents...), unix.Lstat(dir, &stat)); err != nil {
		return err
	}
	const most = 1000 // remembered
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.durable) >= most {
		clear(s.durable)
	}
	s.durable[dir] = stat.Ino
	return nil
}

// ring wakes those who wait for a task.
func (s *Spool) ring() {
	now := time.Now()
	os.Chtimes(s.path(readyDir), now, now) // they look by themselves as well, only later
}

// front is the part of a lane that is looked at.
type front struct {
	lane
	buckets []bucket
	dir     string
	names   []string // in dir, not tried yet
}

// head returns the next entry, or nothing.
func (f *front) head(s *Spool) (name string, err error) {
	for len(f.names) == 0 && len(f.buckets) > 0 {
		b := f.buckets[0]
		f.buckets, f.dir = f.buckets[1:], f.path(s, b.name)
		if f.names, err = fileNames(f.dir); err != nil && !missing(err) {
			return "", err
		}
		if len(f.names) == 0 && (b.pause || len(f.buckets) > 0) {
			os.Remove(f.dir) // if it is still empty; the last one is for what comes next
		}
	}
	if len(f.names) == 0 {
		return "", nil
	}
	return f.names[0], nil
}
