package spool

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

func (s *Spool) letter(id string) string { return s.path(deadDir, id+".json") }

// writeLetter makes a dead letter, durably. Whatever it is of is removed after that.
func (s *Spool) writeLetter(id string, letter api.DeadLetter) error {
	text, err := json.MarshalIndent(letter, "", "  ")
	if err != nil {
		return err
	}
	made, tmp := "letter-"+token(), s.path(tmpDir)
	if err := writeFile(filepath.Join(tmp, made), append(text, '\n')); err != nil {
		return err
	}
	if err := rename(tmp, made, s.path(deadDir), id+".json"); err != nil {
		os.Remove(filepath.Join(tmp, made))
		return err
	}
	return syncDirs(s.path(deadDir))
}

// buryUnreadable buries a file of the claim that must not run, because it is no
// valid task or for another reason.
func (s *Spool) buryUnreadable(c *claim, name string, bad error) error {
	document, err := readDocument(c.path(tasksDir, name))
	if err != nil {
		return err
	}
	letter := unreadableName(name, document)
	reason := shorten(bad.Error())
	if err := s.writeLetter(letter, api.DeadLetter{
		Document: string(document[:min(len(document), api.MaxTaskBytes)]), Reason: reason, Time: time.Now().UTC(),
	}); err != nil {
		return err
	}
	s.log.LogAttrs(context.Background(), slog.LevelWarn, "buried a file that is no task",
		slog.String("file", api.Excerpt(name)), slog.String("letter", letter), slog.String("reason", reason))
	return remove(c.path(tasksDir), name)
}

var unsafeInName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// unreadableName names the dead letter of a file after the file, so that
// people find it, and after its contents, so that two files never share one
// and the same file gets it again if the runner dies in between.
func unreadableName(file string, document []byte) string {
	const maxName = 100 // of the 255 bytes that file systems allow
	name := unsafeInName.ReplaceAllString("unreadable-"+file, "_")
	sum := sha256.Sum256(append([]byte(file+"\x00"), document...))
	return fmt.Sprintf("%s-%x", name[:min(len(name), maxName)], sum[:4])
}

// readLetter puts what is wrong with a letter in the place of its reason.
func readLetter(path string) api.DeadLetter {
	text, err := os.ReadFile(path)
	var letter api.DeadLetter
	if err == nil {
		err = json.Unmarshal(text, &letter)
	}
	if err != nil {
		return api.DeadLetter{Reason: fmt.Sprintf("the dead letter cannot be read: %v", err)}
	}
	return letter
}
