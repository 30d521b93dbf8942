package main_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/e2e-framework/klient/decoder"

	"github.com/studioml/studio-go-runner/e2e/kind"
	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/runner/api"
)

// BenchmarkKindFloor does what the suite on kind cannot do without: it makes the cluster,
// with its images, and as many places and pods, as many at a time. A place is a namespace,
// for the global map has the same name in each, with an account for its runners; they are
// told to terminate, and end.
func BenchmarkKindFloor(b *testing.B) {
	r := kindReport(b)
	places, pods := len(played(r)), int(measured(b, r)["pods"])
	atOnce := r.SuiteConfig.ParallelTotal
	if os.Getenv("KIND_NODE_IMAGE") == "" {
		b.Skip("no image of a node is named; say: bin/airgap kind -- make bench BENCH='all on kind'")
	}
	if testing.Short() {
		places, pods = atOnce, atOnce
	}
	began := time.Now()
	cluster, err := kind.Create(b.Context(), kind.Config{
		Kind: "../../bin/kind", Image: os.Getenv("KIND_NODE_IMAGE"), ConfigFile: "../../kind-config.yaml", Progress: io.Discard,
	})
	check(b, err)
	closed := sync.OnceValue(func() error { return cluster.Close(context.Background()) })
	b.Cleanup(func() { check(b, closed()) })
	check(b, cluster.LoadArchive(b.Context(), "../../bin/postgres-image.tar", cluster.ControlPlane()))
	for _, archive := range []string{"../../bin/e2e-image.tar", "../../bin/fakegpu-image.tar"} {
		check(b, cluster.LoadArchive(b.Context(), archive, append(cluster.Workers(), cluster.Spare())...))
	}
	config, err := clientcmd.BuildConfigFromFlags("", cluster.Kubeconfig)
	check(b, err)
	access, err := kube.Connect(config)
	check(b, err)
	pod, err := plainPod(b.Context())
	check(b, err)

	up := time.Now()
	sizes, failed := make(chan int), make(chan error, places)
	var players sync.WaitGroup
	for range atOnce {
		players.Go(func() {
			for size := range sizes {
				failed <- playPlainly(b.Context(), access, pod, size)
			}
		})
	}
	for i := range places {
		sizes <- pods*(i+1)/places - pods*i/places
	}
	close(sizes)
	players.Wait()
	close(failed)
	for err := range failed {
		check(b, err)
	}
	b.ReportMetric(time.Since(up).Seconds(), "pods-s")
	check(b, closed())
	b.ReportMetric(time.Since(began).Seconds(), "whole-s")
	b.ReportMetric(float64(pods), "pods")
}

// plainPod is that of the shipped Job, with a queue of its own.
func plainPod(ctx context.Context) (*corev1.Pod, error) {
	job, err := kube.ShippedOne[*batchv1.Job](ctx, "job/job.yaml")
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{Spec: job.Spec.Template.Spec}
	pod.GenerateName = "runner-"
	pod.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
	pod.Spec.Containers[0].Image = "studio-go-runner:e2e"
	return pod, nil
}

// playPlainly makes a place with some pods, waits for their ends, and removes them as the
// suite does, without waiting for that.
func playPlainly(ctx context.Context, access kube.Access, pod *corev1.Pod, size int) error {
	place, err := access.Admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "place-"}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	objects, err := kube.Shipped(ctx, "base/rbac.yaml", decoder.MutateNamespace(place.Name))
	if err != nil {
		return err
	}
	objects = append(objects, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: place.Name, Name: api.GlobalMapName}, Data: map[string]string{api.StateKey: "DrainAndTerminate"},
	})
	for _, object := range objects {
		if binding, ok := object.(*rbacv1.RoleBinding); ok {
			binding.Subjects[0].Namespace = place.Name
		}
		if err := access.Objects("").Create(ctx, object); err != nil {
			return err
		}
	}
	pods := access.Admin.CoreV1().Pods(place.Name)
	changes, err := pods.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	defer changes.Stop()
	for range size {
		if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	for event := range changes.ResultChan() {
		if p, ok := event.Object.(*corev1.Pod); ok && p.Status.Phase == corev1.PodSucceeded && event.Type == watch.Modified {
			if size--; size == 0 {
				return pods.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64(1))}, metav1.ListOptions{})
			}
		}
	}
	return cmp.Or(ctx.Err(), fmt.Errorf("the pods of namespace %s did not end", place.Name))
}
