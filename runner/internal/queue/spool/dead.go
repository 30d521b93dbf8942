package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

func (s *Spool) letter(id string) string { return s.path(deadDir, id+".json") }

// oldLetter is where the letter of a task is once it was retried. It counts where the task
// is neither in the queue nor has another end.
func (s *Spool) oldLetter(id string) string { return s.path(resultsDir, id, "retried.json") }

// putAway puts the letter of a task there, if it has one, durably.
func (s *Spool) putAway(id string) error {
	err := rename(s.letter(id), s.oldLetter(id))
	if errors.Is(err, errGone) {
		return nil
	} else if err != nil {
		return err
	}
	return tree.Sync(s.path(resultsDir, id), s.path(deadDir))
}

// writeLetter makes a dead letter, durably. Whatever it is of is removed after that.
func (s *Spool) writeLetter(id string, letter api.DeadLetter) error {
	letter.Time = time.Now().UTC()
	text, err := json.MarshalIndent(letter, "", "  ")
	if err == nil {
		err = s.put(append(text, '\n'), s.letter(id))
	}
	if err != nil {
		return err
	}
	return tree.Sync(s.path(deadDir))
}

// buryFile buries a claimed file whose document is no task. It goes back if it was
// exchanged since it was read. Who comes after a runner that died in between writes the
// same letter.
func (s *Spool) buryFile(d *delivery, document []byte, problem error) error {
	now, err := readFile(d.path(), api.MaxTaskBytes)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, document) {
		return d.release()
	}
	id, err := s.letterOf(d)
	if err != nil {
		return err
	}
	const longest = 600 // bytes, of which a document may have said any number
	reason := problem.Error()
	reason = strings.ToValidUTF8(reason[:min(len(reason), longest)], "…")
	document = document[:min(len(document), api.MaxTaskBytes)]
	letter := api.DeadLetter{Document: string(document), Reason: reason, Attempts: d.entry.spent}
	if err := s.writeLetter(id, letter); err != nil {
		return err
	}
	s.log.Warn("buried a document that is no task", "task", d.entry.id, "reason", reason, "letter", id)
	return d.remove()
}

// letterOf names the letter of a claimed file that is no task: by the id that its name
// says, unless the task of that id is elsewhere in the queue or has succeeded. People copy
// files, and a letter would end that task.
func (s *Spool) letterOf(d *delivery) (id string, err error) {
	id = d.entry.id
	other, err := s.finished(id)
	if s.links(id) > 1 {
		kept, err1 := os.Lstat(s.document(id))
		this, err2 := os.Lstat(d.path())
		other, err = other || !os.SameFile(kept, this), errors.Join(err, err1, err2)
	}
	if other {
		const longest = 100 // of the 128 bytes of an id
		id = fmt.Sprintf("%s-copy-%d", id[:min(len(id), longest)], d.entry.key)
	}
	return id, err
}

// readLetter puts what is wrong with a letter in the place of its reason.
func readLetter(path string) (letter api.DeadLetter) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &letter)
	}
	if err != nil {
		return api.DeadLetter{Reason: fmt.Sprintf("the dead letter cannot be read: %v", err)}
	}
	return letter
}
