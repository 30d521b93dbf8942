package task

import "os"

// output is a file that takes no more than so many bytes. It never fails and
// never makes the task wait: what cannot be kept, because of the limit or a
// full disk, is dropped.
type output struct {
	file      *os.File
	left      int64
	truncated bool
}

func newOutput(path string, limit int64) (*output, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	return &output{file: f, left: limit}, nil
}

// Write is called by one goroutine only, that of os/exec.
func (o *output) Write(p []byte) (int, error) {
	keep := p[:min(int64(len(p)), o.left)]
	if len(keep) < len(p) {
		o.truncated = true
	}
	if len(keep) > 0 {
		n, err := o.file.Write(keep)
		o.left -= int64(n)
		if err != nil {
			o.truncated, o.left = true, 0 // no hole in the middle if there is room again
		}
	}
	return len(p), nil
}

// close says whether something is missing.
func (o *output) close() (truncated bool) {
	if o == nil {
		return false
	}
	return o.file.Close() != nil || o.truncated
}
