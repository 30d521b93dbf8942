package pods

import (
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/e2e-framework/klient/decoder"

	"github.com/studioml/studio-go-runner/e2e/kube"
)

// StartServer starts the PostgreSQL server that is shipped for trying it out, for the
// queues of all scenarios, with a way to it from here until stop is called. Its image is
// the shipped one if none is given.
func (t *Target) StartServer(ctx context.Context, image string) (s Server, stop func(), err error) {
	const limit = 5 * time.Minute // the image may have to be pulled
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took more than %s", limit))
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("start the server of the queues: %w", err)
		}
	}()
	namespace, err := t.Admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "runner-e2e-queues-", Labels: t.config.Run.Labels()}}, metav1.CreateOptions{})
	if err != nil {
		return s, nil, err
	}
	set, service, err := t.createServer(ctx, namespace.Name, image)
	if err != nil {
		return s, nil, err
	}
	err = kube.Poll(ctx, func() error {
		pod, err := t.Admin.CoreV1().Pods(namespace.Name).Get(ctx, set+"-0", metav1.GetOptions{})
		if err == nil && !slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}) {
			err = fmt.Errorf("pod %s: %s", pod.Name, condition(pod))
		}
		return err
	})
	if err != nil {
		return s, nil, err
	}
	const port, user = 5432, "studioml"
	here, stop, err := Forward(ctx, t.Access, namespace.Name, set+"-0", port)
	if err != nil {
		return s, nil, err
	}
	s = Server{Address: fmt.Sprintf("%s:%d", service.Spec.ClusterIP, port), Here: here, User: user, Password: user, Template: "template1"}
	if err = kube.Poll(ctx, func() error { return s.Exec(ctx, "select") }); err != nil { // it may be starting still
		stop()
		return s, nil, err
	}
	return s, stop, nil
}

// serverFiles are the shipped manifests of the server, its Secret first.
var serverFiles = []string{"postgres/queue.yaml", "postgres/server.yaml"}

// createServer makes what is shipped but the tables: each scenario has its own.
func (t *Target) createServer(ctx context.Context, namespace, image string) (set string, service *corev1.Service, err error) {
	for _, file := range serverFiles {
		objects, err := kube.Shipped(ctx, file, decoder.MutateNamespace(namespace))
		if err != nil {
			return "", nil, err
		}
		for _, object := range objects {
			switch object := object.(type) {
			case *batchv1.Job:
				continue
			case *corev1.Service:
				service = object
			case *appsv1.StatefulSet:
				set = object.Name
				t.forTests(object, image)
			}
			if err := t.Klient.Resources().Create(ctx, object); err != nil {
				return "", nil, err
			}
		}
	}
	return set, service, nil
}

// forTests is what the server need not have in tests: a disk that keeps anything. On a
// cluster of the suite's own it stays when a worker is drained or stopped.
func (t *Target) forTests(set *appsv1.StatefulSet, image string) {
	set.Spec.VolumeClaimTemplates = nil
	pod := &set.Spec.Template.Spec
	pod.Volumes = append(pod.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	pod.Containers[0].Args = []string{"-c", "fsync=off", "-c", "max_connections=500"}
	if image != "" {
		pod.Containers[0].Image = image
	}
	if t.config.Owned {
		pod.NodeSelector = map[string]string{"node-role.kubernetes.io/control-plane": ""}
		pod.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	}
}
