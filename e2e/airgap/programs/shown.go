package programs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// showEvery is how often people see that something goes on.
const showEvery = 5 * time.Second

// Shown runs a program to its end, or to that of ctx, and shows now and then the
// line that it is at. The error has the end of what it said.
func Shown(ctx context.Context, cmd *exec.Cmd, name string, progress io.Writer) error {
	return run(ctx, cmd, syscall.SIGKILL, &lines{out: progress, name: name, began: time.Now(), shown: time.Now()})
}

// run runs a program, whose lines go where it has no other place for its output.
// With ctx it ends by a signal, and so does what it started.
func run(ctx context.Context, cmd *exec.Cmd, signal syscall.Signal, to *lines) error {
	if cmd.Stdout == nil {
		cmd.Stdout = to
	}
	cmd.Stderr = to
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, signal) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", to.name, err, strings.Join(append(to.last, string(to.line)), "\n"))
	}
	return nil
}

// lines shows the lines of a program, and keeps the last ones.
type lines struct {
	out   io.Writer
	name  string
	total int // packages that go build -v may name, one a line; 0 for other programs
	done  int
	began time.Time
	shown time.Time
	line  []byte
	last  []string
}

// maxLast bounds the output in an error.
const maxLast = 100

// Write takes output; one goroutine of exec.Cmd calls it.
func (l *lines) Write(data []byte) (int, error) {
	l.line = append(l.line, data...)
	for {
		text, rest, found := bytes.Cut(l.line, []byte("\n"))
		if !found {
			return len(data), nil
		}
		line := string(text)
		l.line = rest
		if l.total > 0 && !strings.ContainsAny(line, " \t:#") { // a package; the others are the compiler's
			l.done++
		} else if !strings.HasPrefix(line, "go: downloading ") {
			l.last = append(l.last, line)
			l.last = slices.Delete(l.last, 0, max(0, len(l.last)-maxLast))
		}
		if time.Since(l.shown) >= showEvery {
			l.show(line)
		}
	}
}

// show prints a line of progress. Packages that the build cache has are not named,
// so their number may end early.
func (l *lines) show(line string) {
	l.shown = time.Now()
	if l.total > 0 {
		line = fmt.Sprintf("%d of %d packages, %s", l.done, l.total, time.Since(l.began).Round(time.Second))
	}
	fmt.Fprintf(l.out, "%s: %s\n", l.name, line)
}
