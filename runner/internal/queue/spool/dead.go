package spool

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// bury writes the dead letter under the name of id, and only when that is on
// the disk removes the task's file from the claim.
func (c *claim) bury(file, id string, letter api.DeadLetter) error {
	text, err := json.MarshalIndent(letter, "", "  ")
	if err != nil {
		return err
	}
	made, tmp, dead := "letter-"+token(), filepath.Join(c.spool, tmpDir), filepath.Join(c.spool, deadDir)
	if err := writeFile(filepath.Join(tmp, made), append(text, '\n')); err != nil {
		return err
	}
	if err := rename(tmp, made, dead, id+".json"); err != nil {
		os.Remove(filepath.Join(tmp, made))
		return err
	}
	if err := syncDirs(dead); err != nil {
		return err
	}
	err = remove(c.path(tasksDir), file)
	if err != nil && c.destroyed() {
		return nil
	}
	return err
}

// buryUnreadable buries a file of the claim that holds no valid task.
func (c *claim) buryUnreadable(file string, document []byte, problem error) (letter string, err error) {
	letter = unreadableName(file, document)
	return letter, c.bury(file, letter, api.DeadLetter{
		Document: string(document[:min(len(document), api.MaxTaskBytes)]),
		Reason:   shorten(problem.Error()),
		Time:     time.Now().UTC(),
	})
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
