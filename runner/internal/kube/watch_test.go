package kube

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// FuzzStream: whatever a server sends, a watch ends in an error and never in
// an event that is none.
func FuzzStream(f *testing.F) {
	for _, seed := range []string{
		`{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"1"}}}`,
		`{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}` + "\n" + `{"type":"DELETED","object":{}}`,
		`{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}`,
		`{"type":"ERROR","object":7}`, `{"type":"GONE","object":{}}`, `{"type":"ADDED"}`, `{"type":"ADDED","object":null}`,
		`{"type":"ADDED","object":{"data":{"STATE":7}}}`, `{"type":`, `[]`, "null", "\x00", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := newStream(io.NopCloser(strings.NewReader(text)))
		defer s.Close()
		for n := 0; ; n++ {
			var object struct {
				Refusal
				Metadata struct{ Name, ResourceVersion string }
				Data     map[string]string
			}
			kind, err := s.Next(&object)
			switch {
			case err != nil:
				return
			case kind != Added && kind != Modified && kind != Deleted && kind != Bookmark:
				t.Fatalf("event of type %q", kind)
			case n > len(text):
				t.Fatal("more events than bytes")
			}
		}
	})
}

// endless never ends its object.
type endless struct{ read int }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	if e.read == 0 {
		copy(b, `{"type":"`)
	}
	e.read += len(b)
	return len(b), nil
}

func (e *endless) Close() error { return nil }

func TestAnEventHasALimit(t *testing.T) {
	e := new(endless)
	_, err := newStream(e).Next(new(Refusal))
	if err == nil || e.read > 2*answerLimit {
		t.Errorf("%v after %d bytes", err, e.read)
	}
	if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
		t.Error("taken for the server's reason")
	}
}
