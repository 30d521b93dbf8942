package spool

import (
	"strings"
	"testing"
)

func TestShorten(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		strings.Repeat("x", 600):  strings.Repeat("x", 600),
		strings.Repeat("x", 601):  strings.Repeat("x", 600) + "… (601 bytes)",
		strings.Repeat("é", 1000): strings.Repeat("é", 300) + "… (2000 bytes)",
	} {
		if got := shorten(text); got != want {
			t.Errorf("%d bytes became %q, want %q", len(text), got, want)
		}
	}
}
