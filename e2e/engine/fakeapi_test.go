package engine_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
)

// fakeAPI is an API server that knows ConfigMaps and nothing else. Anything
// else that it is asked for fails the test.
type fakeAPI struct {
	t      *testing.T
	server *httptest.Server

	mu        sync.Mutex
	version   int
	maps      map[string]*corev1.ConfigMap // by namespace/name
	events    []fakeEvent
	changed   chan struct{} // closed and replaced with each event
	down      bool
	forgotten int // events up to this version are gone, as after an outage
}

type fakeEvent struct {
	version int
	Type    string            `json:"type"`
	Object  *corev1.ConfigMap `json:"object"`
}

func newFakeAPI(t *testing.T) *fakeAPI {
	a := &fakeAPI{t: t, maps: make(map[string]*corev1.ConfigMap), changed: make(chan struct{}), version: 100}
	a.server = httptest.NewServer(a)
	t.Cleanup(func() {
		a.server.CloseClientConnections()
		a.server.Close()
	})
	return a
}

func (a *fakeAPI) config() *rest.Config {
	return &rest.Config{Host: a.server.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
}

// stop refuses all requests and closes all watches.
func (a *fakeAPI) stop() {
	a.mu.Lock()
	a.down = true
	a.mu.Unlock()
	a.server.CloseClientConnections()
}

// start serves again. Watches must be made anew with a list.
func (a *fakeAPI) start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down, a.forgotten = false, a.version
}

// have returns a copy of a map, nil if there is none.
func (a *fakeAPI) have(key string) *corev1.ConfigMap {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.maps[key].DeepCopy()
}

// remove deletes a map behind everybody's back.
func (a *fakeAPI) remove(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.happened("DELETED", a.maps[key].DeepCopy())
}

// happened gives a map a new version; the caller holds the lock.
func (a *fakeAPI) happened(what string, m *corev1.ConfigMap) {
	a.version++
	m.ResourceVersion = strconv.Itoa(a.version)
	key := m.Namespace + "/" + m.Name
	if a.maps[key] = m; what == "DELETED" {
		delete(a.maps, key)
	}
	a.events = append(a.events, fakeEvent{a.version, what, m.DeepCopy()})
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	down := a.down
	a.mu.Unlock()
	if down {
		refuse(w, 503, metav1.StatusReasonServiceUnavailable, "it is down")
		return
	}
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/api":
		write(w, 200, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}})
	case r.URL.Path == "/apis":
		write(w, 200, metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}})
	case r.URL.Path == "/api/v1":
		write(w, 200, metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "v1",
			APIResources: []metav1.APIResource{{Name: "configmaps", SingularName: "configmap", Namespaced: true, Kind: "ConfigMap",
				Verbs: metav1.Verbs{"create", "delete", "get", "list", "patch", "update", "watch"}}},
		})
	case len(path) >= 5 && path[4] == "configmaps" && r.URL.Query().Get("watch") != "":
		a.watch(w, r, path[3])
	case len(path) >= 5 && path[4] == "configmaps":
		a.change(w, r, path[3], strings.Join(path[5:], "/"))
	default:
		a.t.Errorf("fake API server: unexpected %s %s", r.Method, r.URL)
		refuse(w, 404, metav1.StatusReasonNotFound, "not expected")
	}
}

// change answers everything but a watch.
func (a *fakeAPI) change(w http.ResponseWriter, r *http.Request, namespace, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	have := a.maps[namespace+"/"+name]
	some := selector(r)
	if have == nil && name != "" {
		refuse(w, 404, metav1.StatusReasonNotFound, fmt.Sprintf("configmaps %q not found", name))
		return
	}
	switch {
	case r.Method == http.MethodGet && name == "":
		list := corev1.ConfigMapList{TypeMeta: metav1.TypeMeta{Kind: "ConfigMapList", APIVersion: "v1"}}
		list.ResourceVersion = strconv.Itoa(a.version)
		for _, m := range a.maps {
			if m.Namespace == namespace && some.Matches(labels.Set(m.Labels)) {
				list.Items = append(list.Items, *m)
			}
		}
		write(w, 200, list)
		return
	case r.Method == http.MethodGet:
		write(w, 200, have)
		return
	case r.Method == http.MethodDelete:
		gone := have.DeepCopy()
		a.happened("DELETED", gone)
		write(w, 200, gone)
		return
	}
	m := &corev1.ConfigMap{}
	if r.Method == http.MethodPatch {
		m = have.DeepCopy() // decoding into it merges the data, which is all that is patched
	}
	if err := json.NewDecoder(r.Body).Decode(m); err != nil && err != io.EOF {
		refuse(w, 400, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	if r.Method == http.MethodPatch {
		m.ResourceVersion = ""
	}
	m.TypeMeta = metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"}
	m.Namespace = namespace
	switch {
	case r.Method == http.MethodPost && a.maps[namespace+"/"+m.Name] != nil:
		refuse(w, 409, metav1.StatusReasonAlreadyExists, "it exists")
	case r.Method == http.MethodPost:
		a.happened("ADDED", m)
		write(w, 201, m)
	case m.ResourceVersion != "" && m.ResourceVersion != have.ResourceVersion:
		refuse(w, 409, metav1.StatusReasonConflict, "it was changed")
	case have.Immutable != nil && *have.Immutable:
		refuse(w, 422, metav1.StatusReasonInvalid, "field is immutable when `immutable` is set")
	default:
		a.happened("MODIFIED", m)
		write(w, 200, m)
	}
}

// watch sends events from a version on.
func (a *fakeAPI) watch(w http.ResponseWriter, r *http.Request, namespace string) {
	next, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	if r.URL.Query().Get("sendInitialEvents") == "true" { // then clients list first
		refuse(w, 422, metav1.StatusReasonInvalid, "sendInitialEvents is not known")
		return
	}
	some := selector(r)
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	for {
		a.mu.Lock()
		if next < a.forgotten {
			a.mu.Unlock()
			_ = encoder.Encode(map[string]any{"type": "ERROR", "object": status(410, metav1.StatusReasonExpired, "too old")})
			return
		}
		var news []fakeEvent
		for _, e := range a.events {
			if e.version > next && e.Object.Namespace == namespace && some.Matches(labels.Set(e.Object.Labels)) {
				news = append(news, e)
			}
		}
		next = a.version
		changed := a.changed
		a.mu.Unlock()
		for _, e := range news {
			if encoder.Encode(e) != nil {
				return
			}
		}
		w.(http.Flusher).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// selector says which maps a list or watch is about.
func selector(r *http.Request) labels.Selector {
	some, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		panic(err)
	}
	return some
}

func write(w http.ResponseWriter, code int, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object)
}

func status(code int32, reason metav1.StatusReason, message string) metav1.Status {
	return metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
		Code: code, Reason: reason, Message: message}
}

func refuse(w http.ResponseWriter, code int32, reason metav1.StatusReason, message string) {
	write(w, int(code), status(code, reason, message))
}
