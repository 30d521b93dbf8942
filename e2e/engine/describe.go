package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// detail is the whole step in one line, as JSON, for the record.
func detail(s scenario.Step) string {
	text, err := json.Marshal(s)
	if err != nil {
		return describe(s)
	}
	return string(text)
}

// describe names a step in a few words.
func describe(s scenario.Step) string {
	keys := func(subjects []string) string { return strings.Join(subjects, ", ") }
	switch {
	case s.Apply != nil:
		return "apply " + keys(slices.Sorted(maps.Keys(s.Apply)))
	case s.Replace != nil:
		return "replace " + keys(slices.Sorted(maps.Keys(s.Replace)))
	case s.Delete != nil:
		return "delete " + keys(s.Delete)
	case s.RemoveKey != nil:
		return "removeKey " + keys(s.RemoveKey)
	case s.Touch != nil:
		return "touch " + keys(s.Touch)
	case s.Flip != nil:
		return "flip " + s.Flip.Map
	case s.Crowd != nil:
		return fmt.Sprintf("crowd of %d maps", s.Crowd.Maps)
	case s.Manifest != nil:
		return "manifest"
	case s.Admission:
		return "admission"
	case s.Submit != nil:
		return "submit " + s.Submit.Group
	case s.Release != nil:
		return "release " + keys(s.Release)
	case s.Start != nil:
		return "start " + keys(s.Start)
	case s.Signal != nil:
		return "signal " + keys(slices.Sorted(maps.Keys(s.Signal)))
	case s.APIServer != "":
		return "apiserver " + s.APIServer
	case s.Network != "":
		return "network " + s.Network
	case s.Queue != "":
		return "queue " + s.Queue
	case s.Permissions != "":
		return "permissions " + string(s.Permissions)
	case s.FakeGPU != nil:
		return "fakegpu " + keys(slices.Sorted(maps.Keys(s.FakeGPU)))
	case s.Mark != "":
		return "mark " + s.Mark
	case s.Await != nil:
		return "await " + keys(slices.Sorted(maps.Keys(s.Await)))
	case s.Expect != nil:
		return "expect " + keys(slices.Sorted(maps.Keys(s.Expect)))
	case s.Never != nil:
		return "never " + keys(slices.Sorted(maps.Keys(s.Never.That)))
	case s.Wait != nil:
		return "wait " + s.Wait.For.String()
	}
	return "unknown step"
}
