package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
)

// entry is what the name of a task's file says.
type entry struct {
	key    int64  // nanoseconds since 1970 at the submit; orders the queue
	starts int    // how often the task was started; numbers the attempts
	deaths int    // starts whose runner died, and one more while a runner has the task started
	spent  int    // attempts held against the task; never more than starts
	id     string // the task's ID
}

var entryName = regexp.MustCompile(`^([0-9]{20})-([0-9]{1,9})-([0-9]{1,9})-(.+)\.json$`)

// deathUnit is what a death adds to the number of starts in a name. Runners of
// before there was a limit of deaths keep it so, and only count on from there.
const deathUnit = 1_000_000

// name is the inverse of parseName. The key has a fixed width, so that names
// sort like keys.
func (e entry) name() string {
	return fmt.Sprintf("%020d-%d-%d-%s.json", e.key, e.deaths*deathUnit+e.starts, e.spent, e.id)
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

func parseName(name string) (entry, error) {
	bad := fmt.Errorf("file name %s is not one that submit gives; put tasks into the queue with the command submit",
		api.Excerpt(name))
	m := entryName.FindStringSubmatch(name)
	if m == nil {
		return entry{}, bad
	}
	e := entry{id: m[4]}
	var err1, err2, err3 error
	e.key, err1 = strconv.ParseInt(m[1], 10, 64)
	e.starts, err2 = strconv.Atoi(m[2])
	e.spent, err3 = strconv.Atoi(m[3])
	e.deaths, e.starts = e.starts/deathUnit, e.starts%deathUnit
	if errors.Join(err1, err2, err3) != nil || e.spent > e.starts || e.name() != name {
		return entry{}, bad
	}
	return e, nil
}

// parse reads one file of the queue. It is stricter than api.ParseTask, which
// is for what people write: only JSON, because YAML forbids some characters
// that a task's arguments may hold, and only under the task's own name, so
// that a copy made by hand is not run as if it had been submitted.
func parse(name string, document []byte) (entry, *api.Task, error) {
	e, err := parseName(name)
	if err != nil {
		return entry{}, nil, err
	}
	if len(document) > api.MaxTaskBytes {
		return entry{}, nil, fmt.Errorf("task document has more than the %d bytes that are allowed", api.MaxTaskBytes)
	}
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.DisallowUnknownFields()
	var task *api.Task
	if err := decoder.Decode(&task); err != nil {
		return entry{}, nil, fmt.Errorf("task document is no valid JSON: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return entry{}, nil, errors.New("task document is followed by other text")
	}
	if task == nil {
		return entry{}, nil, errors.New("task document is null")
	}
	if err := task.Validate(); err != nil {
		return entry{}, nil, fmt.Errorf("task document: %w", err)
	}
	if task.ID != e.id {
		return entry{}, nil, fmt.Errorf("task document: id: is %s; must be %s as in its file's name",
			api.Excerpt(task.ID), api.Excerpt(e.id))
	}
	return e, task, nil
}

// badDocument is the error for a file that will never be a task.
type badDocument struct{ problem error }

func (b *badDocument) Error() string { return b.problem.Error() }

// readEntry reads a file of the queue.
func readEntry(dir, name string) (entry, *api.Task, error) {
	document, err := readDocument(filepath.Join(dir, name))
	if err != nil {
		return entry{}, nil, err
	}
	e, task, err := parse(name, document)
	if err != nil {
		return entry{}, nil, &badDocument{err}
	}
	return e, task, nil
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

// format writes the document of a task, in the form that parse reads.
func format(task *api.Task) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // for people who look into the directory
	if err := encoder.Encode(task); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

// readDocument reads no more than one byte above the limit, and nothing but
// regular files: a named pipe or a link put there by hand must not hang or
// mislead the runner.
func readDocument(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", path)
	}
	return io.ReadAll(io.LimitReader(f, api.MaxTaskBytes+1))
}
