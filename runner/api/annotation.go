package api

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Annotations of a map, which count if its STATE is in force (R15): why, and how
// long tasks may go on in the drain, from its begin.
const (
	AnnotationReason   = "studioml.io/reason"
	AnnotationDeadline = "studioml.io/drain-deadline"
)

// What a runner writes on its own pod, if it may: labels for selectors, conditions
// for kubectl wait, and its Status as JSON, with the oldest of its tasks alone.
const (
	LabelPhase       = "studioml.io/phase"
	LabelBusy        = "studioml.io/busy"
	AnnotationStatus = "studioml.io/status"

	ConditionDraining = "studioml.io/DrainInProgress"
	ConditionDrained  = "studioml.io/Drained"
)

// ParseReason reads the annotation with a reason.
func ParseReason(value string) (string, error) {
	const longest = 300
	text := strings.TrimSpace(value)
	if n := utf8.RuneCountInString(text); n > longest {
		return "", fmt.Errorf("annotation %s has %d characters; must be at most %d", AnnotationReason, n, longest)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return "", fmt.Errorf("annotation %s is %s; must be one line of text", AnnotationReason, Excerpt(text))
	}
	return text, nil
}

// ParseDeadline reads the annotation with the deadline of a drain. It returns the
// text, without white space, as what it means is known by then.
func ParseDeadline(value string) (string, error) {
	text := strings.TrimSpace(value)
	if d, err := time.ParseDuration(text); text != "" && (err != nil || d < 0) {
		return "", fmt.Errorf("annotation %s is %s; must be a duration that is not negative, as 30m", AnnotationDeadline, Excerpt(text))
	}
	return text, nil
}
