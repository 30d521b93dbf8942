package assets

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// packages are built into binaries named after the last element of the path,
// the major version left out; etcd's would be called server.
var packages = []string{
	"go.etcd.io/etcd/server/v3",
	"k8s.io/kubernetes/cmd/kube-apiserver",
	"k8s.io/kubernetes/cmd/kubectl",
}

// build builds the programs into dir, which appears only when it is complete.
// The caller holds the lock of dir.
func build(ctx context.Context, m *module, dir string, progress io.Writer) error {
	fmt.Fprintf(progress, "building etcd and Kubernetes %s from Go modules into %s (once per version)\n", m.kubernetes, dir)
	// go list downloads the modules that are missing.
	list, err := run(ctx, m.dir, append([]string{"list", "-deps"}, packages...)...)
	if err != nil {
		return fmt.Errorf("list packages: %w", err)
	}
	temp := dir + ".tmp" // what an interrupted build left there is removed
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	if err := os.MkdirAll(temp, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	args := []string{"build", "-v", "-trimpath", "-ldflags=" + m.versionFlags(), "-o", temp + string(filepath.Separator)}
	meter := newMeter(progress, strings.Count(list, "\n"))
	defer meter.finish()
	if err := runGo(ctx, m.dir, io.Discard, meter, append(args, packages...)...); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(temp, "server"), filepath.Join(temp, "etcd")); err != nil {
		return err
	}
	if err := complete(temp); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil { // incomplete, or it would have been used
		return err
	}
	return os.Rename(temp, dir)
}

// run runs the go command and returns its output.
func run(ctx context.Context, dir string, args ...string) (string, error) {
	var out strings.Builder
	err := runGo(ctx, dir, &out, nil, args...)
	return out.String(), err
}

// runGo runs the go command. What it prints on stderr goes to meter as well, if
// there is one; what is not progress is in the error.
func runGo(ctx context.Context, dir string, stdout io.Writer, meter *meter, args ...string) error {
	var captured strings.Builder
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Stdout = stdout
	cmd.Stderr = &captured
	if meter != nil {
		cmd.Stderr = meter
	}
	// The binaries are for this machine whatever the caller builds for, and
	// the nested module belongs to no workspace.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly",
		"GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	// Interrupt the compilers with the go command, which leaves its work
	// directory behind when it is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	text := captured.String()
	if meter != nil {
		text = meter.captured()
	}
	return fmt.Errorf("go %s: %w\n%s", args[0], err, strings.TrimSpace(text))
}

// maxCaptured bounds the lines of compiler output in an error.
const maxCaptured = 200

// meter reads what go build -v prints, a line for each package that it
// compiles, and shows how far it is. Packages that the build cache has are not
// printed, so the count may end early.
type meter struct {
	out   io.Writer
	total int
	began time.Time
	every time.Duration
	tty   bool

	line  []byte
	done  int
	shown time.Time
	other []string // lines that are no package: the compiler's
}

// newMeter makes a meter for a build of total packages.
func newMeter(out io.Writer, total int) *meter {
	m := &meter{out: out, total: total, began: time.Now(), every: 5 * time.Second}
	if file, ok := out.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			m.tty, m.every = true, 200*time.Millisecond
		}
	}
	m.shown = m.began
	return m
}

// Write takes the output of go build; one goroutine of exec.Cmd calls it.
func (m *meter) Write(data []byte) (int, error) {
	for _, b := range data {
		if b != '\n' {
			m.line = append(m.line, b)
			continue
		}
		line := string(m.line)
		m.line = m.line[:0]
		if line != "" && !strings.ContainsAny(line, " \t:#") {
			m.done++
		} else if !strings.HasPrefix(line, "go: downloading ") {
			m.other = append(m.other, line)
			m.other = slices.Delete(m.other, 0, max(0, len(m.other)-maxCaptured))
		}
	}
	if time.Since(m.shown) >= m.every {
		m.show()
	}
	return len(data), nil
}

// show prints one line of progress, over the last one on a terminal.
func (m *meter) show() {
	m.shown = time.Now()
	text := fmt.Sprintf("building kube-apiserver, etcd, kubectl: %d of %d packages, %s; about 8 minutes on 2 cores, once per version",
		m.done, m.total, time.Since(m.began).Round(time.Second))
	if m.tty {
		fmt.Fprintf(m.out, "\r%s\x1b[K", text) // erase what is left of a longer line
		return
	}
	fmt.Fprintln(m.out, text)
}

// finish ends the display.
func (m *meter) finish() {
	if m.tty {
		fmt.Fprintln(m.out)
	}
	fmt.Fprintf(m.out, "compiled %d packages in %s\n", m.done, time.Since(m.began).Round(time.Second))
}

// captured returns the compiler's last lines.
func (m *meter) captured() string {
	return strings.Join(append(m.other, string(m.line)), "\n")
}
