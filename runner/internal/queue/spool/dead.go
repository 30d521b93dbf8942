package spool

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

func (s *Spool) letter(id string) string { return s.path(deadDir, id+".json") }

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

// buryFile buries a file of the queue whose document is no task. Whoever else comes upon
// it writes the same letter, and so does who comes after a runner that died in between.
func (s *Spool) buryFile(path string, e entry, document []byte, problem error) error {
	const longest = 600 // bytes, of which a document may have said any number
	reason := problem.Error()
	reason = strings.ToValidUTF8(reason[:min(len(reason), longest)], "…")
	document = document[:min(len(document), api.MaxTaskBytes)]
	letter := api.DeadLetter{Document: string(document), Reason: reason, Attempts: e.spent}
	if err := s.writeLetter(e.id, letter); err != nil {
		return err
	}
	s.log.Warn("buried a document that is no task", "task", e.id, "reason", reason)
	return remove(path)
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
