// Package incluster starts the PostgreSQL server that is shipped for trying it out in a
// cluster, for the queues of runners in pods.
package incluster

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/e2e-framework/klient/decoder"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/pgserver"
)

// Server is one that runs. Plain data, for other processes.
type Server struct {
	pgserver.Databases        // as this machine reaches them
	Address            string // of the server for pods
}

// ForPods is the URL of a queue in a pod, with the password.
func (s Server) ForPods(name string) string {
	u, err := url.Parse(s.Of(name))
	if err != nil {
		panic(err) // we made it
	}
	u.Host, u.User = s.Address, url.UserPassword(u.User.Username(), s.Password)
	return u.String()
}

// Config says how a server is made.
type Config struct {
	kube.Access
	Labels map[string]string // of its namespace
	Image  string            // if not the shipped one
	// ControlPlane has it be on the node of the API server, where it stays when a
	// worker is drained or stopped.
	ControlPlane bool
}

// Start starts the server, with a way to it from here until stop is called.
func (c Config) Start(ctx context.Context) (s Server, stop func(), err error) {
	const limit = 5 * time.Minute // the image may have to be pulled
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took more than %s", limit))
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("start the server of the queues: %w", err)
		}
	}()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "runner-e2e-queues-", Labels: c.Labels}}
	namespace, err = c.Admin.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if err != nil {
		return s, nil, err
	}
	set, service, err := c.create(ctx, namespace.Name)
	if err != nil {
		return s, nil, err
	}
	err = kube.Poll(ctx, "the server of the queues is ready", func() error {
		pod, err := c.Admin.CoreV1().Pods(namespace.Name).Get(ctx, set+"-0", metav1.GetOptions{})
		if err == nil && !slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}) {
			err = fmt.Errorf("pod %s: %s", pod.Name, kube.Condition(pod))
		}
		return err
	})
	if err != nil {
		return s, nil, err
	}
	const port, user = 5432, "studioml"
	here, stop, err := c.forward(ctx, namespace.Name, set+"-0", port)
	if err != nil {
		return s, nil, err
	}
	at := url.URL{Scheme: "postgres", User: url.User(user), Host: here, RawQuery: "sslmode=disable"}
	s = Server{Databases: pgserver.Databases{URL: at.String(), Password: user}, Address: fmt.Sprintf("%s:%d", service.Spec.ClusterIP, port)}
	if err = kube.Poll(ctx, "the server of the queues answers", func() error { return s.Exec(ctx, "select") }); err != nil { // it may be starting still
		stop()
		return s, nil, err
	}
	return s, stop, nil
}

// serverFiles are the shipped manifests of the server, its Secret first.
var serverFiles = []string{"postgres/queue.yaml", "postgres/server.yaml"}

// create makes what is shipped but the tables: each scenario has its own.
func (c Config) create(ctx context.Context, namespace string) (set string, service *corev1.Service, err error) {
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
				c.forTests(object)
			}
			if err := c.Objects("").Create(ctx, object); err != nil {
				return "", nil, err
			}
		}
	}
	return set, service, nil
}

// forTests is what the server need not have in tests: a disk that keeps anything, a cleaner
// that visits hundreds of databases, and a probe all its life, which has it start a process
// every second. A connection that is forwarded before it listens would hang for half a
// minute, so one says when it does.
func (c Config) forTests(set *appsv1.StatefulSet) {
	set.Spec.VolumeClaimTemplates = nil
	pod := &set.Spec.Template.Spec
	pod.Volumes = append(pod.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	pod.Containers[0].Args = []string{"-c", "fsync=off", "-c", "autovacuum=off", "-c", "max_connections=500"}
	starts := pod.Containers[0].ReadinessProbe
	starts.FailureThreshold = 300
	pod.Containers[0].StartupProbe, pod.Containers[0].ReadinessProbe = starts, nil
	if c.Image != "" {
		pod.Containers[0].Image = c.Image
	}
	if c.ControlPlane {
		pod.NodeSelector = map[string]string{"node-role.kubernetes.io/control-plane": ""}
		pod.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	}
}
