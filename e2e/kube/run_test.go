package kube

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestRemove(t *testing.T) {
	client := fake.NewClientset(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "here"}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "here", Name: "held", Finalizers: []string{"example.com/wait"}}})
	for range 2 { // the second time it is gone
		if err := (Run{}).Remove(t.Context(), client, "here"); err != nil {
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
	if err := (Run{}).Remove(t.Context(), client, "here"); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("error is %v", err)
	}
}

func TestSweep(t *testing.T) {
	now := time.Now()
	space := func(name, run string, expires string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{runLabel: run, expiresLabel: expires}}}
	}
	past, future := strconv.FormatInt(now.Add(-time.Minute).Unix(), 10), strconv.FormatInt(now.Add(time.Hour).Unix(), 10)
	client := fake.NewClientset(
		space("left-behind", "old", past),
		space("in-use", "other", future),
		space("mine", "this", future),
		space("wanted", "old", "never"),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "somebody's"}},
	)
	names := func() []string {
		t.Helper()
		list, err := client.CoreV1().Namespaces().List(context.Background(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, ns := range list.Items {
			names = append(names, ns.Name)
		}
		slices.Sort(names)
		return names
	}
	this := Run{Name: "this", Passing: true}
	if n, err := this.Sweep(t.Context(), client); n != 0 || err != nil || len(names()) != 5 {
		t.Errorf("left are %v, %d, %v, of a cluster that passes", names(), n, err)
	}
	if n, err := (Run{Name: "next"}).Sweep(t.Context(), client); n != 1 || err != nil {
		t.Errorf("removed %d, %v, want 1", n, err)
	}
	if got, want := names(), []string{"in-use", "mine", "somebody's", "wanted"}; !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
	this.Passing = false
	if n, err := this.Sweep(t.Context(), client); n != 1 || err != nil {
		t.Errorf("removed %d, %v, want 1", n, err)
	}
	if got, want := names(), []string{"in-use", "somebody's", "wanted"}; !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
}

// What runs in a namespace of a cluster that passes is ended, and by whom it would be
// started again; the rest stays.
func TestRemoveWhatRuns(t *testing.T) {
	here := metav1.ObjectMeta{Namespace: "here", Name: "a"}
	client := fake.NewClientset(&batchv1.Job{ObjectMeta: here}, &appsv1.Deployment{ObjectMeta: here}, &appsv1.StatefulSet{ObjectMeta: here},
		&corev1.Pod{ObjectMeta: here}, &corev1.ConfigMap{ObjectMeta: here}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "here"}})
	if err := (Run{Passing: true}).Remove(t.Context(), client, "here"); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"jobs", "deployments", "statefulsets", "pods"} {
		if !slices.ContainsFunc(client.Actions(), func(a clienttesting.Action) bool { return a.Matches("delete-collection", kind) }) {
			t.Errorf("no %s were deleted", kind)
		}
	}
	if n := len(client.Actions()); n != 4 {
		t.Errorf("there were %d requests: %v", n, client.Actions())
	}
}
