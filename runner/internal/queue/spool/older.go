package spool

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// olderName is that of a task's file before today's: nanoseconds, starts with a million
// more for each death of a runner, attempts, id.
var olderName = regexp.MustCompile(`^(\d{20})-(\d{1,9})-(\d{1,9})-(.+)\.json$`)

func parseOlder(name string) (entry, error) {
	const death = 1_000_000
	if m := olderName.FindStringSubmatch(name); m != nil {
		starts := int(number(m[2]))
		e := entry{key: number(m[1]) / 1000, starts: starts % death, deaths: starts / death, spent: int(number(m[3])), id: m[4]}
		if e.spent <= e.starts {
			return e, nil
		}
	}
	_, err := parseName(name)
	return entry{}, err
}

// reclaimOlder moves what dead runners of before have claimed to where they put tasks.
// Such a claim has a file that is locked while it lives.
func (s *Spool) reclaimOlder() {
	claims, _ := dirNames(s.path(claimsDir))
	for _, claim := range claims {
		s.sayOnce("could not take back a claim", claim, s.reclaimOneOlder(s.path(claimsDir, claim)))
	}
}

func (s *Spool) reclaimOneOlder(dir string) error {
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
	if missing(err) {
		return nil // another runner has just removed it, or nobody can tell
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if free, err := tryLock(lock); err != nil || !free || !isAt(lock, lock.Name()) {
		return err
	}
	names, err := fileNames(filepath.Join(dir, tasksDir))
	if err != nil && !missing(err) {
		return err
	}
	for _, name := range names {
		if err := rename(filepath.Join(dir, tasksDir, name), s.path(tasksDir, name)); err != nil {
			return err
		}
		s.log.Info("took a task back from a dead runner", "file", name, "runner", "one of before")
	}
	gone := s.path(tmpDir, gonePrefix+filepath.Base(dir))
	if err := errors.Join(syncDirs(s.path(tasksDir)), rename(dir, gone)); err != nil {
		return err
	}
	return tree.Remove(gone)
}

// adopt brings what runners and submits of before have put into tasks/, and what
// people have, into ready/.
func (s *Spool) adopt(ctx context.Context) error {
	if names, err := fileNames(s.path(tasksDir)); err != nil || len(names) == 0 {
		return err
	}
	return s.locked(ctx, "adopt", func(*os.File) error { return nil })
}

// adoptLocked does so for who has the lock.
func (s *Spool) adoptLocked(lock *os.File) error {
	var problems []error
	keep := func(file string) *entering {
		t, err := s.keep(s.path(file))
		if !missing(err) && !errors.Is(err, errGone) { // one of before was faster
			problems = append(problems, err)
		}
		return t
	}
	claimed, _ := fs.Glob(os.DirFS(s.dir), path.Join(claimsDir, "*", tasksDir, "*"))
	for _, file := range claimed { // their ids are in use
		keep(file)
	}
	names, err := fileNames(s.path(tasksDir))
	var all []*entering
	for _, name := range names {
		if t := keep(path.Join(tasksDir, name)); t != nil {
			all = append(all, t)
		}
	}
	problems = append(problems, err, s.enqueue(lock, all))
	if len(all) > 0 {
		problems = append(problems, syncDirs(s.path(tasksDir)))
	}
	return errors.Join(problems...)
}

// keep makes a document of before known under its id. A start whose end nobody has
// told counts as a death of its runner: then its result is looked for.
func (s *Spool) keep(file string) (*entering, error) {
	document, err := readFile(file, api.MaxTaskBytes)
	if err != nil {
		return nil, err
	}
	e, err := parseName(filepath.Base(file)) // people may have moved it there
	if err != nil {
		e, err = parseOlder(filepath.Base(file))
	}
	var task *api.Task
	if err == nil {
		task, err = parse(e.id, document)
	}
	if err != nil {
		return nil, s.discard(file, &badDocument{err, document})
	}
	if kept := s.document(e.id); !isThere(kept) {
		if err := makeDir(filepath.Dir(kept)); err != nil {
			return nil, err
		}
		if os.Link(file, kept) != nil {
			if err := s.writeDocument(e.id, document, true); err != nil {
				return nil, err
			}
		}
	}
	if !reflect.DeepEqual(s.task(e.id), task) {
		return nil, s.discard(file, &badDocument{errors.New("id: is in use by another task; must be another one"), document})
	}
	if e.starts > 0 {
		e.deaths = max(e.deaths, 1)
	}
	return &entering{entry: e.of(task), put: func(path string) error {
		if err := rename(file, path); !errors.Is(err, errGone) {
			return err
		}
		return nil
	}}, nil
}

// discard buries a file that is no task, or no other than one that is known, unless
// it was written so recently that somebody may still be copying it.
func (s *Spool) discard(file string, bad *badDocument) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	age := time.Since(info.ModTime())
	if s.runner == "" || age >= 0 && age < s.rescan || filepath.Dir(file) != s.path(tasksDir) {
		return nil // a runner will
	}
	return s.buryFile(file, bad)
}
