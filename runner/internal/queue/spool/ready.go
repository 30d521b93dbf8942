package spool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// bucketSize is how many entries a bucket of all classes and priorities together gets,
// so that whoever looks for work reads few names however many wait.
const bucketSize = 256

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

func readEnd(lock *os.File) (e end) {
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

// entering is a task on its way into the queue.
type entering struct {
	entry
	task *api.Task
	in   bool
}

// enqueue lets tasks in, at the end and in their order, and says in each that it did.
// The caller has the lock.
func (s *Spool) enqueue(lock *os.File, all ...*entering) error {
	at := readEnd(lock)
	together := map[bucket][]*entering{}
	for _, t := range all {
		if !t.in {
			t.entry = at.next(t.entry)
			together[t.bucket] = append(together[t.bucket], t)
		}
	}
	if len(together) == 0 {
		return nil
	}
	if err := at.write(lock); err != nil {
		return err
	}
	defer s.ring()
	for b, some := range together {
		done := 0 // what was put once may have been taken, and must not be put again
		err := s.enter(b, func(dir string) error {
			for ; done < len(some); done++ {
				if err := s.link(some[done].task, filepath.Join(dir, some[done].name())); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, t := range some {
			t.in = true
		}
	}
	return nil
}

// enter lets put make entries in a bucket, which it makes if need be, and makes all
// of that durable, the bucket too, as others may just have made it. They also remove
// buckets that are empty.
func (s *Spool) enter(b bucket, put func(dir string) error) error {
	dir := s.path(readyDir, b.name())
	for {
		err := makeDir(dir)
		if err == nil {
			err = put(dir)
		}
		if missing(err) && !isThere(dir) && isThere(s.path(readyDir)) {
			continue
		}
		if err != nil {
			return err
		}
		if err = tree.Sync(dir); missing(err) && !isThere(dir) { // what was put there was taken at once
			err = tree.Sync(s.path(heldDir))
		}
		return errors.Join(err, tree.Sync(s.path(readyDir)))
	}
}

// ring wakes those who wait for a task.
func (s *Spool) ring() {
	now := time.Now()
	os.Chtimes(s.path(readyDir), now, now) // they look by themselves as well, only later
}

// front takes the first task that may start, of the classes that are served and with a
// name that suits.
func (s *Spool) front(ctx context.Context, serves func(api.Resources) bool, suits func(name string) bool) (*delivery, error) {
	type file struct{ name, dir string }
	all, err := s.list(s.path(readyDir), dirNames)
	problems := []error{err}
	now, served := time.Now(), map[api.Resources]bool{}
	var last bucket // and those of other classes beside it may be for what comes next
	if len(all) > 0 {
		last, _ = parseBucket(all[len(all)-1])
	}
	for len(all) > 0 {
		var files []file // of all classes that have the same priority, and came at the same time
		for first, _ := parseBucket(all[0]); len(all) > 0; all = all[1:] {
			b, ok := parseBucket(all[0])
			if b.order() != first.order() {
				break
			}
			serve, asked := served[b.class]
			if !ok || asked && !serve || !b.due(now) {
				continue
			}
			dir := s.path(readyDir, all[0])
			names, err := s.list(dir, fileNames)
			if !missing(err) {
				problems = append(problems, err)
			}
			if len(names) == 0 {
				if b.pauses == 1 || b.order() != last.order() {
					os.Remove(dir) // if it is still empty
				}
				continue
			}
			if !asked {
				served[b.class] = serves(b.class)
			}
			for _, name := range names {
				if served[b.class] && suits(name) {
					files = append(files, file{name, dir})
				}
			}
		}
		slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
		for _, f := range files {
			if ctx.Err() != nil {
				break
			}
			d, err := s.try(filepath.Join(f.dir, f.name))
			s.took(f.dir, f.name)
			if d != nil {
				return d, nil
			}
			problems = append(problems, err)
		}
	}
	return nil, errors.Join(append(problems, ctx.Err())...)
}

// list is what a directory of ready/ has, in order. It reads it anew if somebody else
// has changed it since, and each second: clocks of file systems may be coarse.
func (s *Spool) list(dir string, read func(dir string) ([]string, error)) ([]string, error) {
	last := lastChange(dir)
	s.mu.Lock()
	known := s.lists[dir]
	s.mu.Unlock()
	if len(known.names) > 0 && known.change == last && time.Since(known.read) < s.rescan {
		return known.names, nil
	}
	names, err := read(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.lists, func(_ string, l list) bool { return time.Since(l.read) > s.rescan })
	if err == nil {
		s.lists[dir] = list{time.Now(), last, names}
	}
	return names, err
}

// took takes note that the first file of a bucket has gone, or is not to be tried again
// soon. If another has gone, the names are read anew.
func (s *Spool) took(dir, name string) {
	last := lastChange(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.lists[dir]; len(known.names) > 0 && known.names[0] == name {
		s.lists[dir] = list{known.read, last, known.names[1:]}
	}
}

// list is what was seen in a directory.
type list struct {
	read   time.Time
	change change
	names  []string
}

// change is the last one of a directory.
type change struct {
	dir  uint64
	when unix.Timespec
}

func lastChange(dir string) change {
	var s unix.Stat_t
	unix.Lstat(dir, &s)
	return change{s.Ino, s.Ctim}
}

// lockSubmit keeps other submitters out, so that of two with the same ID one comes
// first, and keys grow in the order of the submits. It is held for milliseconds:
// hundreds of them take their turns.
func (s *Spool) lockSubmit(ctx context.Context) (lock *os.File, err error) {
	lock, err = os.OpenFile(s.path(submitLock), os.O_RDWR|os.O_CREATE, fileMode)
	if err == nil {
		err = own(lock.Name(), lock.Chown)
	}
	if err != nil {
		return nil, err
	}
	const least, most, long = time.Millisecond, 16 * time.Millisecond, 10 * time.Second
	told := time.AfterFunc(long, func() {
		s.log.Warn("others submit all the time, or one of them was stopped; waiting; find it with fuser", "lock", lock.Name())
	})
	defer told.Stop()
	for pause := least; ; pause = min(2*pause, most) {
		free, err := tryLock(lock)
		if free {
			return lock, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			err = fmt.Errorf("waited for %s, which others that submit hold: %w", lock.Name(), ctx.Err())
		}
		if err != nil {
			lock.Close()
			return nil, err
		}
	}
}

// locked runs what an owner asks for, one at a time.
func (s *Spool) locked(ctx context.Context, what string, do func(lock *os.File) error) error {
	lock, err := s.lockSubmit(ctx)
	if err == nil {
		defer lock.Close()
		err = do(lock)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
