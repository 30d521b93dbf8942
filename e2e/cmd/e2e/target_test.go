package main

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestTarget(t *testing.T) {
	for _, test := range []struct {
		args   []string
		docker error
		target string
		why    string
		code   int
	}{
		{target: "kind", why: "Docker is usable"},
		{docker: errors.New("no daemon here"), target: "embedded", why: "no daemon here"},
		{args: []string{"kind"}, docker: errors.New("no daemon here"), target: "kind"},
		{args: []string{"existing"}, target: "existing"},
		{args: []string{"minikube"}, why: `TARGET is "minikube", allowed are embedded, kind, existing`, code: 1},
	} {
		var out, errOut strings.Builder
		code := run(test.args, func(context.Context) error { return test.docker }, &out, &errOut)
		if code != test.code || strings.TrimSpace(out.String()) != test.target || !strings.Contains(errOut.String(), test.why) {
			t.Errorf("%v, Docker %v: exit code %d, stdout %q, stderr %q", test.args, test.docker, code, out.String(), errOut.String())
		}
	}
}
