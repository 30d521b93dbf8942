package scenario

import (
	"fmt"
	"strings"

	"github.com/agext/levenshtein"
)

// hint returns "; did you mean x?" for the allowed word that was probably
// meant: the same letters in another case, or at most two edits away. It is
// empty if there is none.
func hint(word string, allowed []string) string {
	const maxEdits, maxLen = 2, 64 // a longer word is no slip of the pen
	if len(word) > maxLen {
		return ""
	}
	best, distance := "", maxEdits+1
	for _, candidate := range allowed {
		d := levenshtein.Distance(strings.ToLower(word), strings.ToLower(candidate), nil)
		if d < distance && d < len(candidate) {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

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
	return fmt.Sprintf("is %s; must be %s%s", quote(word), list(allowed), hint(word, allowed))
}
