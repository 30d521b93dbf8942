package scenario

import (
	"fmt"
	"strings"

	"github.com/studioml/studio-go-runner/runner/api"
)

// list writes words as "a, b or c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// notAWord says what a word must be.
func notAWord(word string, allowed []string) string {
	return fmt.Sprintf("is %s; must be %s%s", quote(word), list(allowed), api.DidYouMean(word, allowed))
}
