package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// look is what an API server has when it is asked once for pods, and for maps.
type look struct {
	pods, maps []string
	code       int  // what it answers instead
	hangs      bool // it does not answer
}

// scriptedServer is an API server that has something else at each look; the last stays.
type scriptedServer struct {
	looks  []look
	refuse string // the map that is not changed, but when it is only tried

	mu      sync.Mutex
	now     look
	changes []string // bodies of patches that were no trial
	patches int
}

func (s *scriptedServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, kind, _ := strings.Cut(r.URL.Path, "/namespaces/default/")
	if r.Method == http.MethodPatch {
		s.patches++
		if r.URL.Query().Get("dryRun") == "" {
			if body, _ := io.ReadAll(r.Body); kind == "configmaps/"+s.refuse {
				w.WriteHeader(http.StatusForbidden)
			} else {
				s.changes = append(s.changes, string(body))
			}
		}
		fmt.Fprint(w, "{}")
		return
	}
	items := s.now.maps
	if kind == "pods" {
		s.now, s.looks = s.looks[0], s.looks[min(1, len(s.looks)-1):]
		items = s.now.pods
	}
	switch {
	case s.now.hangs:
		<-r.Context().Done()
	case s.now.code != 0:
		w.WriteHeader(s.now.code)
	default:
		fmt.Fprintf(w, `{"items":[%s]}`, strings.Join(items, ","))
	}
}

// podSays is a pod whose runner says that it is in a phase, by a node map of a version, or
// by none as of then.
func podSays(name, host, phase, effective, version, reason string) string {
	node := map[string]any{"name": host, "readable": true, "resourceVersion": version}
	if effective != "" {
		node["value"], node["present"] = effective, true
	} else {
		effective = "Running"
	}
	status, _ := json.Marshal(map[string]any{"phase": phase, "effective": effective, "source": "node", "reason": reason, "started": "2026-11-27T10:00:00Z",
		"maps": map[string]any{"node": node, "global": map[string]any{"name": "studioml-go-runner", "readable": true, "resourceVersion": "1"}}})
	text, _ := json.Marshal(string(status))
	return fmt.Sprintf(`{"metadata":{"name":%q,"annotations":{"studioml.io/status":%s}},"spec":{"nodeName":"n1"},"status":{"phase":"Running"}}`, name, text)
}

func mapSays(name, version, state string) string {
	return fmt.Sprintf(`{"metadata":{"name":%q,"resourceVersion":%q},"data":{"STATE":%q}}`, name, version, state)
}

// What the operators' commands make of a cluster that changes while they look, does not
// answer, or tells lies.
func TestOperators(t *testing.T) {
	const suspend, off = "DrainAndSuspend", ""
	is := func(phase, effective, version string) []string {
		return []string{podSays("w", "w", phase, effective, version, "")}
	}
	has := func(version string) []string { return []string{mapSays("w", version, suspend)} }
	drained, draining := look{pods: is("Suspended", suspend, "5"), maps: has("5")}, look{pods: is("Draining", suspend, "5"), maps: has("5")}
	running := look{pods: is("Running", off, "4")}
	shared := []string{podSays("a", "n1", "Running", off, "4", ""), podSays("b", "n1", "Running", off, "4", "")}
	two := []string{podSays("a", "a", "Running", off, "4", ""), podSays("b", "b", "Running", off, "4", "")}
	for name, test := range map[string]struct {
		args    string
		server  *scriptedServer
		code    int
		out     string // what is printed, with a part of it or, after a !, without
		changes int
	}{
		"a map that is replaced": {"wait w --for=Suspended", &scriptedServer{looks: []look{
			draining, {pods: is("Draining", suspend, "5")}, {pods: is("Draining", suspend, "5"), maps: has("7")}, {pods: is("Suspended", suspend, "7"), maps: has("7")},
		}}, 0, "a map that it obeyed was deleted", 0},
		"a map that is gone": {"wait w --for=Suspended", &scriptedServer{looks: []look{
			draining, {pods: is("Draining", suspend, "5")}, running,
		}}, 4, "this cannot come true: w is asked for Running, source default", 0},
		"a map that others have changed": {"wait w --for=Suspended", &scriptedServer{looks: []look{
			draining, {pods: is("Draining", suspend, "5"), maps: []string{mapSays("w", "6", "Running")}},
		}}, 4, "w is asked for Running, source node", 0},
		"nobody for a moment": {"wait --all --for=Running", &scriptedServer{looks: []look{
			{pods: is("Unknown", off, "4")}, {}, running,
		}}, 0, "w is Running", 0},
		"nobody any more, who is drained": {"wait --all --for=Suspended", &scriptedServer{looks: []look{draining, {}}}, 0, "w is Draining", 0},
		"answers that are none": {"wait w --for=Suspended --timeout=1m", &scriptedServer{looks: []look{
			draining, {code: 503}, {code: 429}, {code: 410}, drained,
		}}, 0, "asking again until it answers", 0},
		"credentials that expire":       {"wait w --for=Suspended --timeout=1m", &scriptedServer{looks: []look{draining, {code: 401}, draining, {code: 401}, drained}}, 0, "asking again", 0},
		"credentials that have expired": {"wait w --for=Suspended --timeout=1m", &scriptedServer{looks: []look{draining, {code: 401}}}, 1, "401", 0},
		"no rights any more":            {"wait w --for=Suspended --timeout=1m", &scriptedServer{looks: []look{draining, {code: 403}}}, 1, "403", 0},
		"no answer at the start":        {"wait w --for=Suspended --timeout=1m", &scriptedServer{looks: []look{{code: 503}}}, 1, "503", 0},
		"no answer after a change":      {"drain w --reason=r --wait", &scriptedServer{looks: []look{running, {code: 503}, drained}}, 0, "w is Suspended", 1},
		"time is up in silence":         {"wait w --for=Suspended --timeout=2s", &scriptedServer{looks: []look{draining, {hangs: true}}}, 3, "!asking again", 0},
		"orders to the terminal": {"wait w --for=Suspended", &scriptedServer{looks: []look{
			{pods: []string{podSays("w", "w", "Draining", suspend, "5", "a\x1b[2Jb\nc")}, maps: has("5")}, drained,
		}}, 0, "w is Draining: a [2Jb c\n", 0},
		"two runners of one map":     {"drain --node=n1 --reason=r", &scriptedServer{looks: []look{{pods: shared}}}, 0, "n1: STATE is now DrainAndSuspend\n", 1},
		"one of two that is refused": {"drain a b --reason=r", &scriptedServer{looks: []look{{pods: two}}, refuse: "b"}, 1, "a: STATE is now DrainAndSuspend\n", 1},
		"a map that is somewhere else": {"drain w --reason=r", &scriptedServer{looks: []look{
			{pods: []string{podSays("w", "../../kube-system/configmaps/x", "Running", off, "4", "")}},
		}}, 1, "has no node map", 0},
		"a drain for ever":   {"drain w --reason=r --deadline=0", &scriptedServer{looks: []look{running}}, 0, `"studioml.io/drain-deadline":"0s"`, 1},
		"no time to wait":    {"wait w --for=Running --timeout=0", &scriptedServer{looks: []look{running}}, 1, "must be above 0", 0},
		"only lines, tried":  {"drain w --reason=r --wait --print --dry-run=server", &scriptedServer{looks: []look{running}}, 0, " --dry-run=server ", 0},
		"lines of a context": {"resume w --print --context=it", &scriptedServer{looks: []look{running}}, 0, " --context='it' ", 0},
		"the names of runners": {"state -o name", &scriptedServer{looks: []look{
			{pods: running.pods, maps: []string{mapSays("v", "5", "Running")}},
		}}, 0, "!v\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(test.server)
			defer server.Close()
			t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "config"))
			t.Setenv("POD_NAMESPACE", "default")
			config := fmt.Sprintf(`{current-context: it, contexts: [{name: it, context: {cluster: it, user: it}}], clusters: [{name: it, cluster: {server: %q}}], users: [{name: it}]}`, server.URL)
			if err := os.WriteFile(os.Getenv("KUBECONFIG"), []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var out strings.Builder
			code := run(ctx, strings.Fields(test.args), nil, &out, &out)
			text := out.String() + strings.Join(test.server.changes, "")
			part, without := strings.CutPrefix(test.out, "!")
			if code != test.code || strings.Contains(text, part) == without {
				t.Errorf("exit code %d, want %d; with %q:\n%s", code, test.code, test.out, text)
			}
			if len(test.server.changes) != test.changes || test.changes == 0 && test.server.patches > 0 {
				t.Errorf("%d changes, %d patches, want %d changes: %q", len(test.server.changes), test.server.patches, test.changes, test.server.changes)
			}
		})
	}
}
