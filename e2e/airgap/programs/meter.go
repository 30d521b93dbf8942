package programs

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// maxCaptured bounds the lines of compiler output in an error.
const maxCaptured = 200

// meter reads what go build -v prints, a line for each package that it
// compiles, and shows how far it is. Packages that the build cache has are not
// printed, so the count may end early.
type meter struct {
	out   io.Writer
	set   Set
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
func newMeter(out io.Writer, set Set, total int) *meter {
	m := &meter{out: out, set: set, total: total, began: time.Now(), every: 5 * time.Second}
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
	text := fmt.Sprintf("building %s: %d of %d packages, %s; %s, once per version",
		m.set.What, m.done, m.total, time.Since(m.began).Round(time.Second), m.set.Takes)
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
