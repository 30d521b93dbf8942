package incluster

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/studioml/studio-go-runner/e2e/kube"
)

// The server of the queues is the shipped one, on a disk of its pod.
func TestTheServerForTests(t *testing.T) {
	kinds := map[string]bool{}
	for _, file := range serverFiles {
		objects, err := kube.Shipped(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range objects {
			switch object.(type) {
			case *corev1.Secret, *corev1.Service, *appsv1.StatefulSet, *batchv1.Job:
				kinds[object.GetObjectKind().GroupVersionKind().Kind] = true
			default:
				t.Errorf("%s has a %T", file, object)
			}
		}
	}
	if len(kinds) != 4 {
		t.Errorf("what is shipped are %v", kinds)
	}
	set, err := kube.ShippedOne[*appsv1.StatefulSet](t.Context(), serverFiles[1])
	if err != nil {
		t.Fatal(err)
	}
	Config{ControlPlane: true, Image: "theirs"}.forTests(set)
	pod := set.Spec.Template.Spec
	for _, m := range pod.Containers[0].VolumeMounts {
		if !slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
			t.Errorf("there is no volume %s", m.Name)
		}
	}
	// Who connects to a server that does not listen yet waits for half a minute.
	if c := pod.Containers[0]; c.StartupProbe == nil || c.ReadinessProbe != nil {
		t.Errorf("its probes are %v and %v; want one until it has started, and none then", c.StartupProbe, c.ReadinessProbe)
	}
	if set.Spec.VolumeClaimTemplates != nil || pod.Containers[0].Image != "theirs" || len(pod.NodeSelector) != 1 {
		t.Errorf("it is %+v", pod)
	}
}
