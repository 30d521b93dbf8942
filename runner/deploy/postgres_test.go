package deploy_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	psa "k8s.io/pod-security-admission/api"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func TestTheServerToTryOut(t *testing.T) {
	objects := build(t, filesys.MakeFsOnDisk(), "postgres")
	server, job := find[*appsv1.StatefulSet](objects), find[*batchv1.Job](objects)
	secret, service := find[*corev1.Secret](objects), find[*corev1.Service](objects)
	if len(server) != 1 || len(job) != 1 || len(secret) != 1 || len(service) != 1 {
		t.Fatalf("it is %v", objects)
	}
	for _, object := range []runtime.Object{server[0], job[0]} {
		if details := forbidden(t, psa.LevelRestricted, template(t, []runtime.Object{object})); len(details) > 0 {
			t.Errorf("the restricted profile forbids of %T: %v", object, details)
		}
	}
	url, password := secret[0].StringData["url"], secret[0].StringData["password"]
	if !strings.Contains(url, ":"+password+"@"+service[0].Name+"/") {
		t.Errorf("the URL %s is not that of service %s with password %s", url, service[0].Name, password)
	}
	for key, value := range service[0].Spec.Selector {
		if server[0].Spec.Template.Labels[key] != value {
			t.Errorf("the service selects %s=%s, which the pod does not have", key, value)
		}
	}
}

// With the component no pod of a runner has a volume of the queue, and its URL comes
// from the Secret.
func TestAnyWorkloadCanHaveItsQueueInAServer(t *testing.T) {
	for _, name := range workloads {
		objects := overlay(t, "resources: [DEPLOY/"+name+"]\ncomponents: [DEPLOY/postgres/workload, DEPLOY/fake-gpu/workload]\n")
		if claims := find[*corev1.PersistentVolumeClaim](objects); len(claims) > 0 {
			t.Errorf("%s: there is the claim %s", name, claims[0].Name)
		}
		pod := template(t, objects).Spec
		for _, v := range pod.Volumes {
			if v.PersistentVolumeClaim != nil {
				t.Errorf("%s: there is the volume %s", name, v.Name)
			}
		}
		for _, m := range pod.Containers[0].VolumeMounts {
			if m.Name == "spool" {
				t.Errorf("%s: the queue is mounted at %s", name, m.MountPath)
			}
		}
		first := pod.Containers[0].Env[0]
		if first.Name != "STUDIOML_QUEUE" || first.ValueFrom == nil || first.ValueFrom.SecretKeyRef.Name != "studio-go-runner-queue" || first.ValueFrom.SecretKeyRef.Key != "url" {
			t.Errorf("%s: the first variable is %+v", name, first)
		}
		for _, v := range pod.Containers[0].Env {
			if v.Name == "STUDIOML_SPOOL" {
				t.Errorf("%s: there are two queues", name)
			}
		}
	}
}
