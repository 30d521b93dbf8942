package place

import "bytes"

// maxLine is how many bytes a line has at most; longer ones are cut into several.
const maxLine = 1 << 20

// Lines takes what somebody prints, in pieces of any size, and passes it on by lines.
type Lines struct {
	Each    func(line string) error
	partial []byte // the beginning of a line without its end
}

// Write takes the next piece. An error is that of Each.
func (l *Lines) Write(data []byte) (int, error) {
	l.partial = append(l.partial, data...)
	for {
		line, rest, whole := bytes.Cut(l.partial, []byte("\n"))
		if !whole && len(line) < maxLine {
			return len(data), nil
		}
		l.partial = rest
		if err := l.Each(string(line)); err != nil {
			return 0, err
		}
	}
}

// Last passes on what has no end, when nothing will come any more.
func (l *Lines) Last() {
	if len(l.partial) > 0 {
		_ = l.Each(string(l.partial))
	}
}
