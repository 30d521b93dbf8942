package main

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"runner": func() { os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// The scripts in testdata tell how the command line behaves.
func TestCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			// No cluster, whatever the machine has.
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("KUBECONFIG", "")
			e.Setenv("STUDIOML_NVML_LIBRARY", "none")
			return nil
		},
	})
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
