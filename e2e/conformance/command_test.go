package conformance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

var quiet = &kong.Context{Kong: &kong.Kong{Stdout: io.Discard, Stderr: io.Discard}}

// What cannot come to an end is said before anything is played.
func TestConformanceSaysFirstWhatIsWrong(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	dir := t.TempDir()
	text, program, taken := filepath.Join(dir, "text"), filepath.Join(dir, "program"), filepath.Join(dir, "taken")
	for file, mode := range map[string]os.FileMode{text: 0o644, program: 0o755} {
		if err := os.WriteFile(file, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	free, err := Command{Runner: program, Artifacts: taken}.prepare(filepath.Join(taken, "report.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer free()
	for _, c := range []struct {
		Command
		want string
	}{
		{Command{Runner: text}, "must be a program: chmod +x"},
		{Command{Runner: program, Report: filepath.Join(dir, "no", "report.yaml")}, "the report must be a file that can be written"},
		{Command{Runner: program, Report: dir}, "the report must be a file that can be written"},
		{Command{Runner: program, Artifacts: filepath.Join(text, "below")}, "make a place for the page"},
		{Command{Runner: program, Artifacts: taken}, "another run writes into " + taken},
	} {
		c.Artifacts = cmp.Or(c.Artifacts, filepath.Join(dir, "artifacts"))
		if err := c.Run(t.Context(), quiet); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v; want %q in it", c.Command, err, c.want)
		}
	}
}

// A run that was interrupted has a page of what it has played, and no report.
func TestConformanceIsInterrupted(t *testing.T) {
	dir := t.TempDir()
	c := Command{Artifacts: dir}
	results := []Result{{Level: Core, Played: true, Err: errors.New("it is open")}, {Level: Core}}
	results[0].Scenario.Name, results[1].Scenario.Name = "it was played", "it was not"
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	report := filepath.Join(dir, "report.yaml")
	free, err := c.prepare(report)
	if err != nil {
		t.Fatal(err)
	}
	defer free()
	err = c.conclude(ctx, quiet, &played{}, report, time.Now(), results, errors.New("close: signal: terminated"))
	if want := "1 of 2 scenarios were played"; err == nil || !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), "interrupted") {
		t.Errorf("it says %v, want %s, and that it was interrupted", err, want)
	}
	page, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil || !strings.Contains(string(page), "it was played") || strings.Contains(string(page), "it was not") || !strings.Contains(string(page), "interrupted") {
		t.Errorf("the page: %v, %.500s", err, page)
	}
	if _, err := os.Stat(report); err == nil {
		t.Error("there is a report")
	}
}

// speaker is a target whose adapter says something.
type speaker struct {
	targets.Env
	place.Ground
	say func(context.Context, io.Writer) error
}

func (s speaker) Isolate(context.Context, targets.Isolation) (targets.Env, error) { return s, nil }
func (speaker) Close(context.Context) error                                       { return nil }
func (s speaker) Run(ctx context.Context, _ []byte, out io.Writer, _ ...string) error {
	return s.say(ctx, out)
}

// An adapter may say anything, or nothing for ever.
func TestWhatAdaptersDescribe(t *testing.T) {
	words := func(text string) func(context.Context, io.Writer) error {
		return func(_ context.Context, out io.Writer) error { _, err := io.WriteString(out, text); return err }
	}
	for name, c := range map[string]struct {
		say  func(context.Context, io.Writer) error
		want string
	}{
		"well":       {words("organization: o\nproject: p\nurl: u\nversion: v1\n"), "<nil>"},
		"nothing":    {words(""), "must have a project and a version"},
		"a binary":   {words("\xff\xfe\x00"), "must be organization, project, url and version as YAML"},
		"more":       {words("project: p\nversion: v1\nmore: 1\n"), "must be organization, project, url and version as YAML"},
		"a table":    {words("project: p | q\nversion: v1\n"), `must be one line without | < > [ ], and is "p | q"`},
		"too much":   {words(strings.Repeat("y\n", 1<<20)), "it says more than 65536 bytes"},
		"never ends": {func(ctx context.Context, _ io.Writer) error { <-ctx.Done(); return ctx.Err() }, "it must end within"},
	} {
		t.Setenv("E2E_TIME_FACTOR", map[bool]string{true: "0.01", false: "1"}[name == "never ends"])
		p := played{target: speaker{say: c.say}}
		if got := fmt.Sprint(p.describe(t.Context())); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s; want %s in it", name, got, c.want)
		}
	}
}
