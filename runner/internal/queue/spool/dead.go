package spool

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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

// buryFile buries a file that is no task. Whoever else comes upon it writes the same
// letter, and so does who comes after a runner that died in between.
func (s *Spool) buryFile(path string, bad *badDocument) error {
	name := filepath.Base(path)
	letter, reason := unreadableName(name, bad.text), shorten(bad.Error())
	document := string(bad.text[:min(len(bad.text), api.MaxTaskBytes)])
	if err := s.writeLetter(letter, api.DeadLetter{Document: document, Reason: reason}); err != nil {
		return err
	}
	s.log.Warn("buried a file that is no task", "file", api.Excerpt(name), "letter", letter, "reason", reason)
	return remove(path)
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

var unsafeInName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// unreadableName names the dead letter of a file after the file, so that
// people find it, and after its contents, so that two files never share one and
// the same file always gets the same.
func unreadableName(file string, document []byte) string {
	const maxName = 100 // of the 255 bytes that file systems allow
	name := unsafeInName.ReplaceAllString("unreadable-"+file, "_")
	sum := sha256.Sum256(append([]byte(file+"\x00"), document...))
	return fmt.Sprintf("%s-%x", name[:min(len(name), maxName)], sum[:4])
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
