package task

import (
	"fmt"
	"io"
	"os"
)

// output is a file that takes the begin of what a task prints, and its end: a
// traceback comes last. It never fails and never makes the task wait.
//
// Half of the limit is for the begin. What follows goes into parts beside the file,
// path.1, path.2 and so on, of which the oldest goes when there are too many, so that
// whoever reads meanwhile finds all that will be kept. In the end they are put
// behind the begin, with a mark where something is left out.
type output struct {
	path  string
	part  int64 // the most in one part
	parts []part
	made  int   // how many parts there were
	out   int64 // bytes left out
}

// part is the file, or one of its parts.
type part struct {
	file *os.File
	left int64 // room
	size int64
}

// keptParts is how many there are at most.
const keptParts = 4

func newOutput(path string, limit int64) (*output, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	o := &output{path: path, part: limit / 2 / keptParts}
	o.parts = []part{{file: f, left: limit - o.part*keptParts}}
	return o, nil
}

// Write is called by one goroutine only, that of os/exec.
func (o *output) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		last := &o.parts[len(o.parts)-1]
		n, err := last.file.Write(rest[:min(int64(len(rest)), last.left)])
		last.left, last.size, rest = last.left-int64(n), last.size+int64(n), rest[n:]
		if err == nil && len(rest) > 0 {
			err = o.next()
		}
		if err != nil { // a full disk: what comes later counts more, and there is no hole in it
			o.out += int64(len(rest))
			for len(o.parts) > 1 {
				o.drop()
			}
			o.parts[0].left = 0
			break
		}
	}
	return len(p), nil
}

// next begins a part.
func (o *output) next() error {
	if o.part == 0 {
		return io.ErrShortWrite
	}
	if len(o.parts) > keptParts {
		o.drop()
	}
	f, err := os.OpenFile(o.partPath(o.made+1), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err == nil {
		o.made++
		o.parts = append(o.parts, part{file: f, left: o.part})
	}
	return err
}

func (o *output) partPath(n int) string { return fmt.Sprintf("%s.%d", o.path, n) }

// drop removes the oldest part.
func (o *output) drop() {
	oldest := o.parts[1]
	os.Remove(o.partPath(o.made - len(o.parts) + 2))
	oldest.file.Close()
	o.out += oldest.size
	o.parts = append(o.parts[:1], o.parts[2:]...)
}

// close puts the parts together, and says whether something is missing.
func (o *output) close() (truncated bool) {
	if o == nil {
		return false
	}
	whole := o.parts[0].file
	if o.out > 0 {
		fmt.Fprintf(whole, "\n… %s left out …\n", amount(o.out))
	}
	truncated = o.out > 0
	for len(o.parts) > 1 {
		_, err := o.parts[1].file.Seek(0, io.SeekStart)
		if err == nil {
			_, err = io.Copy(whole, o.parts[1].file)
		}
		truncated = truncated || err != nil
		o.drop()
	}
	return whole.Close() != nil || truncated
}

// amount writes a number of bytes for people.
func amount(bytes int64) string {
	if bytes < 1<<10 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	n, unit := float64(bytes)/(1<<10), 0
	for units := "KMG"; n >= 1<<10 && unit < len(units)-1; unit++ {
		n /= 1 << 10
	}
	return fmt.Sprintf("%.1f %ciB", n, "KMG"[unit])
}
