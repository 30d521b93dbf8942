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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/studioml/studio-go-runner/e2e/kind"
	"github.com/studioml/studio-go-runner/e2e/kube"
)

// BenchmarkKindFloor does what the suite on kind cannot do without: it makes the cluster,
// with its images, and as many pods, as many at a time, whose programs end at once.
func BenchmarkKindFloor(b *testing.B) {
	r := kindReport(b)
	n, atOnce := int(measured(b, r)["pods"]), r.SuiteConfig.ParallelTotal
	if os.Getenv("KIND_NODE_IMAGE") == "" {
		b.Skip("no image of a node is named; say: bin/airgap kind -- make bench BENCH='all on kind'")
	}
	if testing.Short() {
		n = atOnce
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
	pod, err := barePod(b.Context())
	check(b, err)

	up := time.Now()
	names, failed := make(chan string), make(chan error, n)
	var players sync.WaitGroup
	for range atOnce {
		players.Go(func() {
			for name := range names {
				failed <- play(b.Context(), access, pod, name)
			}
		})
	}
	for i := range n {
		names <- fmt.Sprintf("pod-%d", i)
	}
	close(names)
	players.Wait()
	close(failed)
	for err := range failed {
		check(b, err)
	}
	b.ReportMetric(time.Since(up).Seconds(), "pods-s")
	check(b, closed())
	b.ReportMetric(time.Since(began).Seconds(), "whole-s")
	b.ReportMetric(float64(n), "pods")
}

// barePod has the containers and volumes of a runner's pod, but no runner.
func barePod(ctx context.Context) (*corev1.Pod, error) {
	job, err := kube.ShippedOne[*batchv1.Job](ctx, "job/job.yaml")
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{Spec: job.Spec.Template.Spec}
	pod.Spec.ServiceAccountName = ""
	for i := range pod.Spec.Volumes {
		pod.Spec.Volumes[i].VolumeSource = corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
	}
	c := &pod.Spec.Containers[0]
	c.Image, c.Command, c.Args = "studio-go-runner:e2e", []string{"/bin/true"}, nil
	c.StartupProbe, c.LivenessProbe, c.ReadinessProbe = nil, nil, nil
	beside := *c
	beside.Name, beside.Ports = "beside", nil
	pod.Spec.Containers = append(pod.Spec.Containers, beside)
	return pod, nil
}

// play makes a pod, waits for its end, and removes it as the suite does, without waiting
// for that.
func play(ctx context.Context, access kube.Access, pod *corev1.Pod, name string) error {
	pods := access.Admin.CoreV1().Pods(metav1.NamespaceDefault)
	pod = pod.DeepCopy()
	pod.Name = name
	made, err := pods.Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	watch, err := pods.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name, ResourceVersion: made.ResourceVersion})
	if err != nil {
		return err
	}
	defer watch.Stop()
	for event := range watch.ResultChan() {
		if p, ok := event.Object.(*corev1.Pod); ok && p.Status.Phase == corev1.PodSucceeded {
			return pods.Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(1))})
		}
	}
	return cmp.Or(ctx.Err(), fmt.Errorf("pod %s did not end", name))
}
