package kind

import (
	"errors"
	"strings"
	"testing"
)

func TestReadable(t *testing.T) {
	err := readable(errors.New("kind: failed\nI1126 10:58:50.559363 214 round_trippers.go:632] \"Response\"\nerror: the cause"))
	if text := err.Error(); !strings.HasPrefix(text, "kind: failed\nerror: the cause") {
		t.Errorf("got %q", text)
	}
}
