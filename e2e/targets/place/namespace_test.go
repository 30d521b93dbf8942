package place_test

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

func TestRemove(t *testing.T) {
	client := fake.NewClientset(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "here"}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "here", Name: "held", Finalizers: []string{"example.com/wait"}}})
	for range 2 { // the second time it is gone
		if err := place.Remove(t.Context(), client, "here"); err != nil {
			t.Error(err)
		}
	}
	if _, err := client.CoreV1().Namespaces().Get(t.Context(), "here", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("it is still there: %v", err)
	}
	// A map that a scenario holds would hold the namespace for ever.
	if held, err := client.CoreV1().ConfigMaps("here").Get(t.Context(), "held", metav1.GetOptions{}); err != nil || len(held.Finalizers) > 0 {
		t.Errorf("the map still has %v, %v", held.Finalizers, err)
	}
}

// That one thing is gone does not hide that another one stays.
func TestRemoveSaysWhatStays(t *testing.T) {
	client := fake.NewClientset()
	for resource, err := range map[string]error{
		"jobs":       apierrors.NewNotFound(corev1.Resource("namespaces"), "here"),
		"namespaces": errors.New("the server is busy"),
	} {
		client.PrependReactor("*", resource, func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, err })
	}
	if err := place.Remove(t.Context(), client, "here"); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("error is %v", err)
	}
}
