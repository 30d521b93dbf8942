package e2e_test

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os/exec"

	. "github.com/onsi/ginkgo/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/targets/place"
	"github.com/studioml/studio-go-runner/e2e/targets/pods"
)

// forTests is what the server of runner/deploy/postgres need not have in tests: a
// disk that keeps anything.
const forTests = `patches:
- target: {kind: StatefulSet, name: studio-go-runner-postgres}
  patch: |
    - {op: remove, path: /spec/volumeClaimTemplates}
    - {op: add, path: /spec/template/spec/volumes/-, value: {name: data, emptyDir: {}}}
    - {op: replace, path: /spec/template/spec/containers/0/args, value: [-c, fsync=off, -c, max_connections=500]}
`

// onControlPlaneNode has the server stay when a worker is drained or stopped.
const onControlPlaneNode = `    - {op: add, path: /spec/template/spec/nodeSelector, value: {node-role.kubernetes.io/control-plane: ""}}
    - {op: add, path: /spec/template/spec/tolerations, value: [{operator: Exists}]}
`

// setUpQueues starts the PostgreSQL server that is shipped for trying it out, for the
// queues of all scenarios, with a way to it from here while the suite runs.
func setUpQueues(ctx SpecContext, t *pods.Target) (s pods.Server, err error) {
	const name = "studio-go-runner-postgres"
	defer func() {
		if err != nil {
			err = fmt.Errorf("start the server of the queues: %w", err)
		}
	}()
	namespace, err := t.Admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "runner-e2e-queues-", Labels: t.Labels()}}, metav1.CreateOptions{})
	if err != nil {
		return s, err
	}
	k, err := newKubectl(namespace.Name)
	if err != nil {
		return s, err
	}
	fields := "images:\n" + image("studio-go-runner", config.image)
	if config.postgres != "" {
		fields += image("postgres", config.postgres)
	}
	fields += forTests
	if config.target == "kind" {
		fields += onControlPlaneNode
	}
	if err := k.apply(ctx, "postgres", fields); err != nil {
		return s, err
	}
	if _, err := k.try(ctx, nil, "rollout", "status", timeout(), "statefulset/"+name); err != nil {
		pods, _ := k.try(ctx, nil, "get", "pods")
		return s, fmt.Errorf("%w\n%s", err, pods)
	}
	service, err := t.Admin.CoreV1().Services(namespace.Name).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return s, err
	}
	const port, user = 5432, "studioml"
	here, stop, err := pods.Forward(ctx, t.Access, namespace.Name, name+"-0", port)
	if err != nil {
		return s, err
	}
	DeferCleanup(stop)
	s = pods.Server{Address: fmt.Sprintf("%s:%d", service.Spec.ClusterIP, port), Here: here, User: user, Password: user, Template: "template"}
	err = await(ctx, func() error { return s.Exec(ctx, "create database "+s.Template) }) // it may be starting still
	if err != nil {
		return s, err
	}
	at := "STUDIOML_QUEUE=" + s.URL(s.Here, s.Template, url.UserPassword(s.User, s.Password))
	return s, place.Program(ctx, []string{at}, nil, nil, config.client, "queue", "init")
}

// findClient finds the runner's program, for submits and looks into the queue.
func findClient() error {
	path, err := exec.LookPath(cmp.Or(config.client, "runner"))
	if err != nil {
		return errors.Join(errors.New("the runner's program is missing, by which tasks are submitted; make e2e builds it"), err)
	}
	config.client = path
	return nil
}
