package task

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// output is a file that takes the begin of what a task prints, and its end: a
// traceback comes last. It never fails and never makes the task wait.
//
// Half of the limit is for the begin. What follows goes into parts beside the file,
// of which the oldest goes when there are too many, so that whoever reads meanwhile
// finds all that will be kept. In the end they are put behind the begin, with a mark
// where something is left out.
type output struct {
	dir   *os.Root // for the parts, from before the task began
	part  int64    // the most in one part
	parts []part
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

func newOutput(path string, parts *os.Root, limit int64) (*output, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC|tree.NoPoll, 0o644)
	if err != nil {
		return nil, err
	}
	o := &output{dir: parts, part: limit / 2 / keptParts}
	if parts == nil {
		o.part = 0
	}
	o.parts = []part{{file: f, left: limit - o.part*keptParts}}
	return o, nil
}

// buffers are used again: for most tasks one would be the largest thing that is made.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// ReadFrom implements io.ReaderFrom, for package supervise.
func (o *output) ReadFrom(r io.Reader) (int64, error) {
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	return io.CopyBuffer(struct{ io.Writer }{o}, r, buffer[:])
}

// Write is called by one goroutine only, that of package supervise.
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
	begin := o.parts[0]
	between := o.out
	for _, p := range o.parts[1:] {
		between += p.size
	}
	// What is there by that name the task has made.
	name := api.OutputPart(filepath.Base(begin.file.Name()), begin.size, between)
	f, err := o.dir.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|tree.NoPoll, 0o644)
	if err == nil {
		o.parts = append(o.parts, part{file: f, left: o.part})
	}
	return err
}

// drop removes the oldest part.
func (o *output) drop() {
	o.out += o.parts[1].size
	o.remove(o.parts[1])
	o.parts = slices.Delete(o.parts, 1, 2)
}

// remove removes a part. One that stays goes with the end of the attempt.
func (o *output) remove(p part) {
	_ = o.dir.Remove(filepath.Base(p.file.Name()))
	p.file.Close()
}

// close puts the parts together. It says how many bytes are left out, and whether
// anything is missing.
func (o *output) close() (out int64, truncated bool) {
	if o == nil {
		return 0, false
	}
	whole := o.parts[0].file
	var problems []error
	if o.out > 0 {
		_, err := io.WriteString(whole, api.OutputMark(o.out))
		problems = append(problems, err)
	}
	for _, p := range o.parts[1:] {
		_, err := p.file.Seek(0, io.SeekStart)
		if err == nil {
			_, err = io.Copy(whole, p.file)
		}
		problems = append(problems, err)
	}
	for _, p := range slices.Backward(o.parts[1:]) { // who reads meanwhile sees no gap
		o.remove(p)
	}
	problems = append(problems, whole.Close())
	return o.out, o.out > 0 || errors.Join(problems...) != nil
}
