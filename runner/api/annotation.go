package api

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Annotations, labels and conditions. The first two are the operators', on the maps
// (contract, R15); the others a runner's, on its own pod.
const (
	AnnotationReason   = "studioml.io/reason"
	AnnotationDeadline = "studioml.io/drain-deadline"

	AnnotationStatus  = "studioml.io/status" // the Status, with no more than the oldest task
	LabelPhase        = "studioml.io/phase"
	LabelBusy         = "studioml.io/busy"
	ConditionDraining = "studioml.io/DrainInProgress"
	ConditionDrained  = "studioml.io/Drained"
)

// ParseReason reads the annotation that says why STATE is what it is.
func ParseReason(value string) (string, error) {
	const longest = 300
	text := strings.TrimSpace(value)
	switch n := utf8.RuneCountInString(text); {
	case n > longest:
		return "", fmt.Errorf("annotation %s has %d characters; must be at most %d", AnnotationReason, n, longest)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }):
		return "", fmt.Errorf("annotation %s is %s; must be one line of text", AnnotationReason, Excerpt(text))
	}
	return text, nil
}

// ParseDeadline reads the annotation that says how long a drain may take, and returns
// the text of a duration, or nothing.
func ParseDeadline(value string) (string, error) {
	text := strings.TrimSpace(value)
	if d, err := time.ParseDuration(text); text != "" && (err != nil || d < 0) {
		return "", fmt.Errorf("annotation %s is %s; must be a duration that is not negative, as 30m", AnnotationDeadline, Excerpt(text))
	}
	return text, nil
}
