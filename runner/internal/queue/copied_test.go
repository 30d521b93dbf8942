package queue_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Links are copied as they are, wherever they lead. Of one that runs there is what it
// prints, and no result yet.
func copied(t *testing.T, f fixture) {
	s := f.Store(t)
	submit(t, f, "a")
	d := fetchID(t, f.Consumer(t), "a")
	begin(t, d, 1)
	made := files(t, d, 1)
	copies := func() map[string]string {
		dir := t.TempDir()
		opened, err := s.Files(t.Context(), "a", 1)
		if err != nil {
			return map[string]string{"": err.Error()}
		}
		defer opened.Close()
		ok(t, "copy", os.CopyFS(dir, opened))
		all := map[string]string{}
		ok(t, "look", filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
			name, _ := filepath.Rel(dir, path)
			switch {
			case err != nil || entry.IsDir():
			case entry.Type() == os.ModeSymlink:
				all[name], err = os.Readlink(path)
			default:
				text, fault := os.ReadFile(path)
				all[name], err = string(text), fault
			}
			return err
		}))
		return all
	}
	want := map[string]string{"stdout": "stdout", "stderr": "stderr"}
	for end := time.Now().Add(patience); !cmp.Equal(copies(), want) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if diff := cmp.Diff(want, copies()); diff != "" {
		t.Errorf("copied while it runs (-want +got):\n%s", diff)
	}
	outputs := filepath.Join(filepath.Dir(made.Stdout()), "outputs")
	ok(t, "put", errors.Join(os.MkdirAll(filepath.Join(outputs, "sub"), 0o755), os.WriteFile(filepath.Join(outputs, "epoch-1"), []byte("1"), 0o644),
		os.Symlink("epoch-1", filepath.Join(outputs, "latest")), os.Symlink("../epoch-1", filepath.Join(outputs, "sub", "up")),
		os.Symlink("/etc/passwd", filepath.Join(outputs, "away"))))
	_, err := d.Finish(api.Result{Task: "a", Attempt: 1, Outcome: api.Succeeded}, made)
	ok(t, "finish", err)
	want["outputs/epoch-1"], want["outputs/latest"], want["outputs/sub/up"], want["outputs/away"] = "1", "epoch-1", "../epoch-1", "/etc/passwd"
	got := copies()
	delete(got, "result.json") // which a directory has among the files
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("copied after the end (-want +got):\n%s", diff)
	}
}
