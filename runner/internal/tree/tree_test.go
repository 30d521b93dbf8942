package tree_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// userEnv makes the test binary a process of an ordinary user that removes a
// directory: root may remove anything.
const userEnv = "TREE_TEST_REMOVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(userEnv); dir != "" {
		if os.Getuid() == 0 {
			if err := syscall.Setuid(65534); err != nil {
				panic(err)
			}
		}
		if err := tree.Remove(dir); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// asUser removes a directory as an ordinary user to whom all of it belongs, but
// for what is named.
func asUser(t *testing.T, dir string, notHis ...string) (message string) {
	t.Helper()
	if os.Getuid() == 0 {
		for path := filepath.Dir(dir); path != "/" && path != os.TempDir(); path = filepath.Dir(path) {
			os.Chmod(path, 0o777)
		}
		filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error { return os.Lchown(path, 65534, 65534) })
		for _, path := range notHis {
			os.Chown(path, 0, 0)
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), userEnv+"="+dir)
	out, _ := cmd.CombinedOutput()
	return string(out)
}

// readOnly makes a directory as Go's module cache does.
func readOnly(t *testing.T) (dir, inner string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "a")
	inner = filepath.Join(dir, "b", "c")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{filepath.Join(inner, "file"): 0o444, filepath.Join(dir, "file"): 0} {
		if err := os.WriteFile(path, []byte("x"), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir, inner
}

func TestRemoveDirectoriesThatForbidIt(t *testing.T) {
	dir, inner := readOnly(t)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Mkdir(outside, 0o555); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{inner, filepath.Dir(inner), dir} {
		if err := os.Chmod(path, 0o555); err != nil {
			t.Fatal(err)
		}
	}
	if message := asUser(t, dir); message != "" {
		t.Error(message)
	}
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory: %v, want it gone", err)
	}
	if info, err := os.Stat(outside); err != nil || info.Mode().Perm() != 0o555 {
		t.Errorf("what a link led to: %v, %v; want it as it was", info.Mode(), err)
	}
}

func TestRemoveSaysWhatStays(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make files of another user")
	}
	dir, inner := readOnly(t)
	if message := asUser(t, dir, inner); !strings.Contains(message, inner) || !strings.Contains(message, "user who owns it") {
		t.Errorf("error %q, want the path and what to do", message)
	}
}
