package kube_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/studioml/studio-go-runner/e2e/kube"
)

// Scenarios that are played at the same time share a client, and each lists its own
// namespace.
func TestNamespacesAreKeptApart(t *testing.T) {
	answers := map[string]any{
		"/api":    metav1.APIVersions{Versions: []string{"v1"}},
		"/apis":   metav1.APIGroupList{},
		"/api/v1": metav1.APIResourceList{GroupVersion: "v1", APIResources: []metav1.APIResource{{Name: "configmaps", Kind: "ConfigMap", Namespaced: true}}},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if !ok { // one map, which says what was asked for
			answer = corev1.ConfigMapList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMapList"},
				Items: []corev1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Name: strings.Split(r.URL.Path, "/")[4]}}}}
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer)
	}))
	defer server.Close()
	access, err := kube.Connect(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	a, b := access.Objects("a"), access.Objects("b")
	var list corev1.ConfigMapList
	if err := a.List(t.Context(), &list); err != nil || list.Items[0].Name != "a" {
		t.Errorf("%v: listed %v, want a", err, list.Items)
	}
	if err := b.List(t.Context(), &list); err != nil || list.Items[0].Name != "b" {
		t.Errorf("%v: listed %v, want b", err, list.Items)
	}
}
