package statemap_test

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
	"github.com/studioml/studio-go-runner/runner/internal/statemap"
)

// patience is how long a test waits for what must happen; only one that fails
// waits for so long.
const patience = 10 * time.Second

// follow watches the maps for the length of the test.
func follow(t *testing.T, client kubernetes.Interface, node string) *statemap.Maps {
	t.Helper()
	m := statemap.New(client.CoreV1(), namespace, node, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return m
}

// until waits for a snapshot that is as wanted.
func until(t *testing.T, m *statemap.Maps, what string, wanted func(lifecycle.Snapshot) bool) lifecycle.Snapshot {
	t.Helper()
	limit := time.After(patience)
	var last lifecycle.Snapshot
	for {
		select {
		case last = <-m.Updates():
			if wanted(last) {
				return last
			}
		case <-limit:
			t.Fatalf("not seen in %s: %s; the last snapshot is %+v", patience, what, last)
		}
	}
}

func TestMapsAreFollowed(t *testing.T) {
	s, client := newServer(t)
	s.put(api.GlobalMapName, "Running")
	s.put("another", "DrainAndTerminate")
	m := follow(t, client, "node-1")
	first := until(t, m, "both maps known", func(s lifecycle.Snapshot) bool { return s.Global.Known && s.Node.Known })
	if first.Global.Value != "Running" || !first.Global.Present || first.Node.Present {
		t.Errorf("at first: %+v", first)
	}
	s.put("node-1", "DrainAndSuspend")
	node := until(t, m, "the node map", func(s lifecycle.Snapshot) bool { return s.Node.Present })
	if node.Node.Value != "DrainAndSuspend" || node.Node.ResourceVersion != "4" || node.Global.Value != "Running" {
		t.Errorf("with a node map: %+v", node)
	}
	s.put(api.GlobalMapName, "DrainAndTerminate")
	until(t, m, "the change", func(s lifecycle.Snapshot) bool { return s.Global.Value == "DrainAndTerminate" })
	s.remove("node-1")
	gone := until(t, m, "the deletion", func(s lifecycle.Snapshot) bool { return !s.Node.Present })
	if gone.Node.Gone.IsZero() || gone.Node.Value != "" || gone.Node.ResourceVersion != "6" || !gone.Node.Known {
		t.Errorf("after the deletion: %+v", gone.Node)
	}
}

func TestNothingIsMissedWhileAWatchIsDown(t *testing.T) {
	for name, outage := range map[string]func(s *server){
		"the server is away":         func(s *server) { s.answer(http.StatusServiceUnavailable) },
		"the server has forgotten":   func(s *server) { s.forget() },
		"the server refuses a while": func(s *server) { s.answer(http.StatusForbidden) },
	} {
		t.Run(name, func(t *testing.T) {
			s, client := newServer(t)
			s.put(api.GlobalMapName, "Running")
			m := follow(t, client, "")
			until(t, m, "the map", func(s lifecycle.Snapshot) bool { return s.Global.Value == "Running" })
			outage(s)
			s.put(api.GlobalMapName, "DrainAndSuspend")
			s.remove(api.GlobalMapName)
			s.put(api.GlobalMapName, "DrainAndTerminate")
			s.answer(0)
			until(t, m, "the newest value", func(s lifecycle.Snapshot) bool {
				return s.Global.Value == "DrainAndTerminate" && s.Global.Unreadable == ""
			})
		})
	}
}

// R4: what cannot be read is not absent.
func TestUnreadableKeepsWhatWasRead(t *testing.T) {
	s, client := newServer(t)
	s.put(api.GlobalMapName, "DrainAndSuspend")
	m := follow(t, client, "")
	until(t, m, "the map", func(s lifecycle.Snapshot) bool { return s.Global.Present })
	s.answer(http.StatusServiceUnavailable)
	away := until(t, m, "the outage", func(s lifecycle.Snapshot) bool { return s.Global.Unreadable != "" })
	if away.Global.Value != "DrainAndSuspend" || !away.Global.Present || !away.Global.Denied.IsZero() {
		t.Errorf("in the outage: %+v", away.Global)
	}
	s.answer(http.StatusForbidden)
	denied := until(t, m, "the missing rights", func(s lifecycle.Snapshot) bool { return !s.Global.Denied.IsZero() })
	const hint = "grant get, list and watch on configmaps to the runner's service account"
	if denied.Global.Value != "DrainAndSuspend" || !strings.Contains(denied.Global.Unreadable, hint) ||
		!strings.Contains(denied.Global.Unreadable, `ConfigMap "studioml-go-runner" in namespace "lab"`) {
		t.Errorf("without rights: %+v", denied.Global)
	}
	s.answer(0)
	back := until(t, m, "the return", func(s lifecycle.Snapshot) bool { return s.Global.Unreadable == "" })
	if back.Global.Value != "DrainAndSuspend" || !back.Global.Denied.IsZero() {
		t.Errorf("afterwards: %+v", back.Global)
	}
}

func TestDeniedFromTheStartIsNotKnown(t *testing.T) {
	s, client := newServer(t)
	s.answer(http.StatusForbidden)
	m := follow(t, client, "")
	denied := until(t, m, "the missing rights", func(s lifecycle.Snapshot) bool { return !s.Global.Denied.IsZero() })
	if denied.Global.Known {
		t.Errorf("%+v, want that nothing is known", denied.Global)
	}
}

func TestFresh(t *testing.T) {
	s, client := newServer(t)
	s.put(api.GlobalMapName, "DrainAndTerminate")
	m := statemap.New(client.CoreV1(), namespace, "node-1", slog.New(slog.DiscardHandler))
	fresh, err := m.Fresh(t.Context())
	if err != nil || fresh.Global.Value != "DrainAndTerminate" || !fresh.Node.Known || fresh.Node.Present {
		t.Errorf("Fresh gives %+v, %v", fresh, err)
	}
	s.answer(http.StatusServiceUnavailable)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if fresh, err := m.Fresh(ctx); err == nil || !strings.Contains(err.Error(), "Service Unavailable") {
		t.Errorf("Fresh in an outage gives %+v, %v", fresh, err)
	}
}

func TestNodeMapName(t *testing.T) {
	for hostname, problem := range map[string]string{
		"runner-0":               "",
		"node.example.com":       "",
		"":                       "HOSTNAME is not set",
		api.GlobalMapName:        "name of the global map",
		"Node_1":                 `HOSTNAME is "Node_1"`,
		strings.Repeat("a", 254): "no ConfigMap can be named",
	} {
		name, err := statemap.NodeMapName(hostname)
		switch {
		case problem == "" && (err != nil || name != hostname):
			t.Errorf("%q: %q, %v, want itself", hostname, name, err)
		case problem != "" && (err == nil || name != "" || !strings.Contains(err.Error(), problem)):
			t.Errorf("%q: %q, %v, want an error with %q", hostname, name, err, problem)
		}
	}
}

func TestFindCluster(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	err := os.WriteFile(config, []byte(`
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u, namespace: from-file}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		flag, namespace string
		env             map[string]string
		want            string // the namespace, empty for no cluster
		problem         string
	}{
		"a laptop":                   {},
		"the flag":                   {flag: config, want: "from-file"},
		"KUBECONFIG":                 {env: map[string]string{"KUBECONFIG": config}, want: "from-file"},
		"one of several":             {env: map[string]string{"KUBECONFIG": dir + "/no:" + config}, want: "from-file"},
		"a namespace":                {flag: config, namespace: "mine", want: "mine"},
		"a namespace that cannot be": {flag: config, namespace: "My_Own", problem: `namespace is "My_Own"`},
		"a flag that names nothing":  {flag: dir + "/no", problem: "/no"},
		"KUBECONFIG names nothing":   {env: map[string]string{"KUBECONFIG": dir + "/no"}, problem: "unset it to run without a cluster"},
		"a pod without a token":      {env: map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, problem: "automountServiceAccountToken"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"} {
				t.Setenv(variable, test.env[variable])
			}
			t.Setenv("HOME", dir)
			cluster, err := statemap.FindCluster(test.flag, test.namespace)
			switch {
			case test.problem != "":
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Errorf("error %v, want one with %q", err, test.problem)
				}
			case err != nil:
				t.Error(err)
			case cluster == nil && test.want != "" || cluster != nil && cluster.Namespace != test.want:
				t.Errorf("cluster %+v, want the namespace %q", cluster, test.want)
			}
		})
	}
}
