package scenario

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"

	"github.com/studioml/studio-go-runner/runner/api"
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

// oneOf returns what is wrong with a word that is not among those allowed,
// and "" if it is.
func oneOf(word string, allowed []string) string {
	if slices.Contains(allowed, word) {
		return ""
	}
	return fmt.Sprintf("is %s, allowed is %s%s", api.Excerpt(word), list(allowed), hint(word, allowed))
}

// list writes words as "a, b or c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
