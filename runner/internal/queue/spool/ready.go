package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// bucketSize is how many entries a bucket of all classes and priorities together gets,
// so that whoever looks for work reads few names however many wait.
const bucketSize = 512

// buckets lists the directories of ready/ in their order. Others are left alone.
func (s *Spool) buckets() (all []bucket, err error) {
	names, err := dirNames(s.path(readyDir))
	for _, name := range names {
		if b, ok := parseBucket(name); ok {
			all = append(all, b)
		}
	}
	return all, err
}

// end is where the next task goes that is submitted. It is in the file that is locked
// for it. If it is lost, clocks that were set back change the order.
type end struct {
	from, key int64
	count     int
}

func (s *Spool) readEnd(lock *os.File) (e end) {
	text := make([]byte, 64)
	n, _ := lock.ReadAt(text, 0)
	fmt.Sscanf(string(text[:n]), "%d %d %d", &e.from, &e.key, &e.count)
	return e
}

func (e *end) write(lock *os.File) error {
	_, err := lock.WriteAt(fmt.Appendf(nil, "%016d %016d %03d\n", e.from, e.key, e.count), 0)
	return err
}

// next gives the entry of a task its place.
func (e *end) next(to entry) entry {
	e.key = max(time.Now().UnixMicro(), e.key+1)
	if e.count++; e.count > bucketSize || e.from == 0 {
		e.from, e.count = e.key, 1
	}
	to.from, to.key = e.from, e.key
	return to
}

// entering is a task on its way into the queue, or one that is known to be in.
type entering struct {
	entry
	put func(path string) error // makes its file in ready/; nil for one that is in
	in  bool
}

// enqueue lets tasks in, at the end and in their order, and says in each that it did.
// The caller has the lock.
func (s *Spool) enqueue(lock *os.File, all []*entering) error {
	at := s.readEnd(lock)
	together := map[string][]*entering{}
	for _, t := range all {
		if t.put != nil {
			t.entry = at.next(t.entry)
			together[t.bucket.name()] = append(together[t.bucket.name()], t)
		}
	}
	if len(together) == 0 {
		return nil
	}
	defer s.ring()
	problems := []error{at.write(lock)}
	for _, some := range together {
		err := errors.Join(problems...)
		if err == nil {
			err = s.enter(some[0].bucket, func() error {
				for _, t := range some {
					if err := t.put(s.path(readyDir, t.bucket.name(), t.name())); err != nil && !errors.Is(err, os.ErrExist) {
						return err
					}
				}
				return nil
			})
			problems = append(problems, err)
		}
		for _, t := range some {
			t.in = err == nil
		}
	}
	return errors.Join(problems...)
}

// enter lets put make entries in a bucket, which it makes if need be, and makes all
// of that durable, the bucket too, as others may just have made it. They also remove
// buckets that are empty.
func (s *Spool) enter(b bucket, put func() error) error {
	dir := s.path(readyDir, b.name())
	for {
		if err := makeDir(dir); err != nil {
			return err
		}
		err := put()
		if missing(err) && !isThere(dir) {
			continue
		}
		if err != nil {
			return err
		}
		return syncDirs(dir, s.path(readyDir))
	}
}

// ring wakes those who wait for a task.
func (s *Spool) ring() {
	now := time.Now()
	os.Chtimes(s.path(readyDir), now, now) // they look by themselves as well, only later
}

// file is one in ready/.
type file struct{ bucket, name string }

// front takes the first task that may start, of the classes that are served.
func (s *Spool) front(ctx context.Context, serves func(api.Resources) bool) (*delivery, error) {
	all, err := s.buckets()
	problems := []error{err}
	newest := int64(0)
	for _, b := range all {
		if !b.pause {
			newest = max(newest, b.from)
		}
	}
	now, asked := time.Now(), map[api.Resources]bool{}
	all = slices.DeleteFunc(all, func(b bucket) bool { return !b.due(now) })
	for len(all) > 0 {
		var files []file
		for order := all[0].order(); len(all) > 0 && all[0].order() == order; all = all[1:] {
			b := all[0]
			wanted, known := asked[b.class]
			if known && !wanted {
				continue
			}
			names, err := fileNames(s.path(readyDir, b.name()))
			if !missing(err) {
				problems = append(problems, err)
			}
			if len(names) == 0 && (b.pause || b.from < newest) { // the newest one is for what comes next
				os.Remove(s.path(readyDir, b.name())) // if it is still empty
			}
			if len(names) == 0 {
				continue
			}
			if !known {
				wanted = serves(b.class)
				asked[b.class] = wanted
			}
			for _, name := range names {
				if wanted {
					files = append(files, file{b.name(), name})
				}
			}
		}
		slices.SortStableFunc(files, func(a, b file) int { return cmp.Compare(a.name, b.name) })
		for _, f := range files {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			d, err := s.try(f)
			if d != nil {
				return d, nil
			}
			problems = append(problems, err)
		}
	}
	return nil, errors.Join(append(problems, ctx.Err())...)
}

// buryExpired buries what nobody here may ever look at otherwise: tasks of classes that
// no runner has.
func (s *Spool) buryExpired(ctx context.Context) error {
	now := time.Now()
	all, err := s.buckets()
	problems := []error{err}
	for _, b := range all {
		names, _ := fileNames(s.path(readyDir, b.name()))
		for _, name := range names {
			if e, err := parseName(name); err == nil && e.expired(now) != "" && ctx.Err() == nil {
				d, err := s.try(file{b.name(), name})
				if d != nil { // the clock was set back
					err = d.Release()
				}
				problems = append(problems, err)
			}
		}
	}
	return errors.Join(problems...)
}

// lockSubmit keeps other submitters out, those of before as well, so that of two
// with the same ID one comes first, and keys grow in the order of the submits. It
// is held for milliseconds: hundreds of them take their turns.
func (s *Spool) lockSubmit(ctx context.Context) (lock *os.File, err error) {
	lock, err = os.OpenFile(s.path(submitLock), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	const least, most, long = time.Millisecond, 16 * time.Millisecond, 10 * time.Second
	begun, told := time.Now(), false
	for pause := least; ; pause = min(2*pause, most) {
		ok, err := tryLock(lock)
		if ok {
			return lock, nil
		}
		if err == nil {
			select {
			case <-time.After(pause):
				if !told && time.Since(begun) > long {
					told = true
					s.log.Warn("others submit all the time, or one of them was stopped; waiting; find it with fuser", "lock", lock.Name())
				}
				continue
			case <-ctx.Done():
				err = fmt.Errorf("waited for %s, which others that submit hold: %w", lock.Name(), ctx.Err())
			}
		}
		lock.Close()
		return nil, err
	}
}
