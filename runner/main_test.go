package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/studioml/studio-go-runner/runner/internal/queue/postgres"
)

// repository is where the repository is; scripts run elsewhere.
var repository, _ = filepath.Abs("..")

// hasty keeps the race detector from sleeping for a second at the end of each program.
const hasty = "atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	os.Setenv("GORACE", hasty)
	if err := flag.Set("test.parallel", "8"); err != nil { // they wait, mostly
		panic(err)
	}
	testscript.Main(tests{m}, map[string]func(){
		"runner": func() { os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// tests are all of them, and what they share.
type tests struct{ *testing.M }

func (m tests) Run() int {
	code := m.M.Run()
	if err := closeServers(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// The scripts in testdata tell how the command line behaves.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: alone})
}

// alone sets the environment of a script: no cluster, whatever the machine has.
func alone(e *testscript.Env) error {
	e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
	e.Setenv("KUBECONFIG", "")
	e.Setenv("STUDIOML_NVML_LIBRARY", "none")
	e.Setenv("GORACE", hasty)
	return nil
}

// The scripts in testdata/queue are what the owners of tasks do, on every queue.
//
// catalogue: row 79, 80
func TestOwners(t *testing.T) {
	t.Parallel()
	for name, queue := range map[string]func(t *testing.T, e *testscript.Env) error{
		"spool": func(_ *testing.T, e *testscript.Env) error {
			e.Setenv("STUDIOML_SPOOL", filepath.Join(e.WorkDir, "spool"))
			e.Setenv("QUEUE", "--spool="+filepath.Join(e.WorkDir, "spool"))
			return nil
		},
		"server": func(t *testing.T, e *testscript.Env) error {
			_, place := newDatabase(t, queueServer(t))
			_, _, err := postgres.Init(t.Context(), place)
			e.Setenv("STUDIOML_QUEUE", place)
			e.Setenv("QUEUE", "--queue="+place)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "server" {
				queueServer(t) // which may skip
			}
			testscript.Run(t, testscript.Params{
				Dir:   "testdata/queue",
				Setup: func(e *testscript.Env) error { return errors.Join(alone(e), queue(t, e)) },
				Cmds:  map[string]func(*testscript.TestScript, bool, []string){"until": until, "readme": readme},
			})
		})
	}
}

// readme writes the README's example in a language into a file.
func readme(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: readme language file")
	}
	text, err := os.ReadFile(filepath.Join(repository, "README.md"))
	ts.Check(err)
	_, example, ok := strings.Cut(string(text), "\n```"+args[0]+"\n")
	example, _, ok2 := strings.Cut(example, "\n```\n")
	if !ok || !ok2 {
		ts.Fatalf("the README has no example in %s", args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(example+"\n"), 0o644))
}

// until runs a command until its output matches.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until regexp command")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		if out := ts.ReadFile("stdout"); want.MatchString(out) {
			return
		} else if time.Now().After(deadline) {
			ts.Fatalf("no %s in the output, error %v:\n%s%s", args[0], err, out, ts.ReadFile("stderr"))
		}
	}
}

// Without HOSTNAME, as outside of a pod, a runner has a node map nevertheless.
func TestNameOfTheNodeMap(t *testing.T) {
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ variable, flag, name, from, host string }{
		{"pod-0", "", "pod-0", "HOSTNAME", "pod-0"},
		{"pod-0", "mine", "mine", "HOSTNAME", "pod-0"},
		{"", "mine", "mine", "--name", "mine"},
		{"", "", machine, "the machine's name", machine},
	} {
		t.Setenv("HOSTNAME", test.variable)
		s := Serve{Name: test.flag}
		if name, host, from, err := s.names(); err != nil || name != test.name || from != test.from || host != test.host {
			t.Errorf("%+v: named %q, %v; its map %q, from %s", test, name, err, host, from)
		}
	}
}

// A Deployment's envFrom must be able to set every flag.
func TestEveryFlagHasAVariableThatTheHelpNames(t *testing.T) {
	var help strings.Builder
	if code := run(t.Context(), []string{"serve", "--help"}, nil, &help, &help); code != 0 {
		t.Fatalf("serve --help exits with %d", code)
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Serve]()) {
		variable := field.Tag.Get("env")
		if field.Anonymous {
			continue
		} else if variable == "" {
			t.Errorf("%s has no environment variable", field.Name)
		} else if !strings.Contains(help.String(), "($"+variable+")") {
			t.Errorf("serve --help does not name %s", variable)
		}
	}
}
