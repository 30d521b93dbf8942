package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What operators are told where there is no pod of a runner, and whose a map is, also
// where what it says is not in force.
func TestSteeringWithoutPods(t *testing.T) {
	t.Parallel()
	const global = `{"metadata": {"name": "studioml-go-runner", "resourceVersion": "7", "annotations": {"studioml.io/reason": "new driver"},
		"managedFields": [{"manager": "bob", "time": "2026-11-27T10:00:00Z", "fieldsV1": {"f:data": {"f:STATE": {}}}}]}, "data": {"STATE": "Runing"}}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == http.MethodPatch && r.URL.Query().Get("force") == "false":
			w.WriteHeader(http.StatusConflict)
			io.WriteString(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409, "reason": "Conflict", "message": "conflict with bob"}`)
		case strings.HasSuffix(r.URL.Path, "/namespaces/lab/configmaps"):
			io.WriteString(w, `{"metadata": {}, "items": [`+global+`]}`)
		default:
			io.WriteString(w, `{"metadata": {}, "items": []}`)
		}
	}))
	t.Cleanup(server.Close)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, namespace: lab}}],
clusters: [{name: c, cluster: {server: %q}}]}`, server.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	const nobody = "no runner in namespace lab: runners are its pods with app.kubernetes.io/name=studio-go-runner"
	for _, test := range []struct {
		args, want string
		code       int
	}{
		{"drain --all --reason=x", "studioml-go-runner: STATE is bob's, who set it ", 1},
		{"drain --all --reason=x", " ago, because: new driver; ask there, or take it over with --force-conflicts\n", 1},
		{"drain --all --reason=x --force-conflicts --wait", "studioml-go-runner: STATE is now DrainAndSuspend\nrunner: " + nobody, 1},
		{"state", nobody, 0},
		{"state --node=n1", "no runner in namespace lab is on a node n1\n", 0},
	} {
		var out strings.Builder
		code := run(t.Context(), append(strings.Fields(test.args), "--kubeconfig="+kubeconfig), nil, &out, &out)
		if code != test.code || !strings.Contains(out.String(), test.want) {
			t.Errorf("%s: exits with %d and says\n%s\nwant %d and\n%s", test.args, code, out.String(), test.code, test.want)
		}
	}
}
