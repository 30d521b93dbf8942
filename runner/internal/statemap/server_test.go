package statemap_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/studioml/studio-go-runner/runner/internal/kube"
)

const namespace = "lab"

// server is an API server that knows ConfigMaps, and field selectors by name.
// Any other request fails the test.
type server struct {
	t *testing.T

	mu      sync.Mutex
	version int
	maps    map[string]corev1.ConfigMap
	log     []logged // every change since the start, or since forget
	ending  bool     // the namespace is being deleted
	begin   int      // versions up to here are forgotten
	refuse  int      // status for all requests; 0 serves them
	changed chan struct{}
	watches int
}

// logged is a change as a watch tells it.
type logged struct {
	Type    string           `json:"type"`
	Object  corev1.ConfigMap `json:"object"`
	version int
}

func newServer(t *testing.T) (*server, *kube.Client) {
	s := &server{t: t, version: 1, maps: make(map[string]corev1.ConfigMap), changed: make(chan struct{})}
	web := httptest.NewServer(s)
	t.Cleanup(func() {
		s.change(func() { s.refuse = http.StatusServiceUnavailable }) // ends the watches
		web.Close()
	})
	return s, newClient(t, web.URL)
}

func newClient(t *testing.T, address string) *kube.Client {
	t.Helper()
	client, err := kube.New(&rest.Config{Host: address})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// change does something and wakes the watches.
func (s *server) change(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
	close(s.changed)
	s.changed = make(chan struct{})
}

// put creates or changes a map. Its state may have the name of another key
// before it, with a NUL between.
func (s *server) put(name, state string) {
	s.change(func() {
		s.version++
		kind := "ADDED"
		if _, ok := s.maps[name]; ok {
			kind = "MODIFIED"
		}
		m := corev1.ConfigMap{
			TypeMeta:   metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"},
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, ResourceVersion: strconv.Itoa(s.version)},
			Data:       map[string]string{"STATE": state},
		}
		if key, value, ok := strings.Cut(state, "\x00"); ok {
			m.Data = map[string]string{key: value}
		}
		s.maps[name] = m
		s.log = append(s.log, logged{kind, m, s.version})
	})
}

func (s *server) remove(name string) {
	s.change(func() {
		s.version++
		m := s.maps[name]
		m.ResourceVersion = strconv.Itoa(s.version)
		delete(s.maps, name)
		s.log = append(s.log, logged{"DELETED", m, s.version})
	})
}

// answer sets the status of all requests; 0 serves them. Watches end.
func (s *server) answer(status int) { s.change(func() { s.refuse = status }) }

// forget ends the watches and answers those that ask for old versions with 410.
func (s *server) forget() {
	s.change(func() {
		s.version++
		s.begin, s.log = s.version, nil
	})
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const path = "/api/v1/namespaces/" + namespace + "/configmaps"
	name, selected := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	if rest, ok := strings.CutPrefix(r.URL.Path, path+"/"); ok {
		name, selected = rest, true
	} else if r.URL.Path != path {
		selected = false
	}
	if r.URL.Path == "/api/v1/namespaces/"+namespace {
		s.namespace(w)
		return
	}
	if !selected || r.Method != http.MethodGet {
		s.t.Errorf("unexpected request %s %s", r.Method, r.URL)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.refuse != 0:
		s.status(w, s.refuse)
	case r.URL.Path != path:
		if m, ok := s.maps[name]; ok {
			s.write(w, m)
		} else {
			s.status(w, http.StatusNotFound)
		}
	case r.URL.Query().Get("watch") != "":
		s.watch(w, r, name)
	default:
		list := corev1.ConfigMapList{
			TypeMeta: metav1.TypeMeta{Kind: "ConfigMapList", APIVersion: "v1"},
			ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(s.version)},
		}
		if m, ok := s.maps[name]; ok {
			list.Items = []corev1.ConfigMap{m}
		}
		s.write(w, list)
	}
}

func (s *server) namespace(w http.ResponseWriter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != 0 {
		s.status(w, s.refuse)
		return
	}
	meta := object{"name": namespace}
	if s.ending {
		meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
	}
	s.write(w, object{"metadata": meta})
}

// watch is called with the lock held, and gives it back while it waits.
func (s *server) watch(w http.ResponseWriter, r *http.Request, name string) {
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	if from < s.begin {
		s.status(w, http.StatusGone)
		return
	}
	s.watches++
	begin := s.begin
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	encoder := json.NewEncoder(w)
	for s.refuse == 0 && s.begin == begin {
		for _, e := range s.log {
			if e.version > from && e.Object.Name == name {
				_ = encoder.Encode(e) // the client may have gone
			}
			from = max(from, e.version)
		}
		w.(http.Flusher).Flush()
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-r.Context().Done():
		}
		s.mu.Lock()
		if r.Context().Err() != nil {
			return
		}
	}
}

func (s *server) write(w http.ResponseWriter, object any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object) // the client may have gone
}

func (s *server) status(w http.ResponseWriter, code int) {
	reasons := map[int]metav1.StatusReason{
		http.StatusForbidden: metav1.StatusReasonForbidden, http.StatusNotFound: metav1.StatusReasonNotFound,
		http.StatusGone: metav1.StatusReasonExpired, http.StatusServiceUnavailable: metav1.StatusReasonServiceUnavailable,
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reasons[code], Message: http.StatusText(code),
	})
}
