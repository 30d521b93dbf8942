package statemap_test

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/kube"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
	"github.com/studioml/studio-go-runner/runner/internal/statemap"
)

// patience is how long a test waits for what must happen; only one that fails
// waits for so long.
const patience = 20 * time.Second

// follow watches the maps for the length of the test.
func follow(t *testing.T, client *kube.Client, node string) *statemap.Maps {
	t.Helper()
	m := statemap.New(client, namespace, node, slog.New(slog.DiscardHandler))
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

// Without a cluster the runner just runs.
func TestNoClusterNoMaps(t *testing.T) {
	m := follow(t, nil, "")
	until(t, m, "that there are none", func(s lifecycle.Snapshot) bool { return s == lifecycle.Snapshot{Off: true} })
	if s, err := m.ReadFresh(t.Context()); err != nil || !s.Off {
		t.Errorf("fresh: %+v, %v", s, err)
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

// A namespace that is being deleted takes its maps along; a runner that starts
// there, or that lists its map again, must not take that for an order.
func TestAnEndingNamespaceSaysNothing(t *testing.T) {
	s, client := newServer(t)
	s.change(func() { s.ending = true })
	m := follow(t, client, "")
	start := until(t, m, "the ending", func(s lifecycle.Snapshot) bool { return s.Global.Unreadable != "" })
	if start.Global.Known || !strings.Contains(start.Global.Unreadable, `namespace "lab" is being deleted`) {
		t.Errorf("at the start: %+v", start.Global)
	}
	fresh, err := m.ReadFresh(t.Context())
	if err != nil || !fresh.Ending || fresh.Global.Present {
		t.Errorf("read afresh: %+v, %v", fresh, err)
	}
	s.change(func() { s.ending = false })
	until(t, m, "the absent map", func(s lifecycle.Snapshot) bool { return s.Global.Known && s.Global.Unreadable == "" })
}

// A map that has its state under another name is told from one that has none.
func TestAKeyInsteadOfState(t *testing.T) {
	s, client := newServer(t)
	m := follow(t, client, "")
	for _, test := range []struct{ key, value, want string }{
		{"state", "Running", "state"}, {"State", "Running", "State"}, {"STATE.txt", "Running", "STATE.txt"}, {"STATES", "Running", "STATES"},
		{"global_config.yaml", "kind: ConfigMap\ndata:\n  STATE: Running\n", "global_config.yaml"},
		{"drain.env", "STATE=DrainAndSuspend", "drain.env"},
		{"motd", "the STATE of the art", ""}, {"estate", "Running", ""}, {"STATE", "", ""},
	} {
		s.put(api.GlobalMapName, test.key+"\x00"+test.value)
		now := until(t, m, test.key, func(now lifecycle.Snapshot) bool { return now.Global.ResourceVersion == strconv.Itoa(s.version) })
		if now.Global.Instead != test.want || now.Global.Value != "" {
			t.Errorf("%s: %q: %+v, want the key %q", test.key, test.value, now.Global, test.want)
		}
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
	m := statemap.New(client, namespace, "node-1", slog.New(slog.DiscardHandler))
	fresh, err := m.ReadFresh(t.Context())
	if err != nil || fresh.Global.Value != "DrainAndTerminate" || !fresh.Node.Known || fresh.Node.Present {
		t.Errorf("ReadFresh gives %+v, %v", fresh, err)
	}
}

func TestNodeMapName(t *testing.T) {
	for hostname, problem := range map[string]string{
		"runner-0":               "",
		"node.example.com":       "",
		"":                       `HOSTNAME is ""`,
		api.GlobalMapName:        "name of the global map",
		"Node_1":                 `HOSTNAME is "Node_1"`,
		strings.Repeat("a", 254): "no ConfigMap can be named",
	} {
		name, err := statemap.NodeMapName("HOSTNAME", hostname)
		switch {
		case problem == "" && (err != nil || name != hostname):
			t.Errorf("%q: %q, %v, want itself", hostname, name, err)
		case problem != "" && (err == nil || name != "" || !strings.Contains(err.Error(), problem)):
			t.Errorf("%q: %q, %v, want an error with %q", hostname, name, err, problem)
		}
	}
}
