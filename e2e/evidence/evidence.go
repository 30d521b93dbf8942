// Package evidence is what a scenario leaves for people, who need it after a failure.
package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/e2e-framework/klient/k8s"
	"sigs.k8s.io/e2e-framework/klient/k8s/resources"
	"sigs.k8s.io/yaml"
)

// maxFile bounds a file of the evidence, in bytes.
const maxFile = 64 << 20

// Dir is the directory of the evidence, empty if nobody wants any.
type Dir string

// Objects saves what there is in a namespace: maps, Events, Roles, pods, volume claims
// and workloads.
func (d Dir) Objects(ctx context.Context, namespace *resources.Resources) error {
	var problems []error
	for file, list := range map[string]k8s.ObjectList{
		"maps": &corev1.ConfigMapList{}, "events": &corev1.EventList{}, "roles": &rbacv1.RoleList{},
		"pods": &corev1.PodList{}, "claims": &corev1.PersistentVolumeClaimList{}, "jobs": &batchv1.JobList{},
		"deployments": &appsv1.DeploymentList{}, "statefulsets": &appsv1.StatefulSetList{},
	} {
		err := namespace.List(ctx, list, func(o *metav1.ListOptions) { o.Limit = 200 })
		var objects []runtime.Object
		if err == nil {
			objects, err = meta.ExtractList(list)
		}
		for _, o := range objects {
			if object, err := meta.Accessor(o); err == nil {
				object.SetManagedFields(nil) // only servers read them
			}
		}
		if len(objects) > 0 {
			err = d.YAML(file+".yaml", objects)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("collect %s: %w", file, err))
		}
	}
	return errors.Join(problems...)
}

// YAML saves a value.
func (d Dir) YAML(name string, value any) error {
	data, err := yaml.Marshal(value)
	if err != nil {
		return err
	}
	return d.Save(name, data)
}

// Save writes a file.
func (d Dir) Save(name string, data []byte) error {
	file := d.Record(name)
	_, _ = file.Write(data)
	return file.Close()
}

// Record is a file that is written as things happen. Writing to it never fails, so that a
// full disk does not change what a scenario shows; it takes no more than a bound, and says
// so at its end. Close says why it could not be made.
func (d Dir) Record(name string) io.WriteCloser {
	r := &record{left: maxFile}
	if d != "" {
		if r.failed = os.MkdirAll(string(d), 0o755); r.failed == nil {
			r.file, r.failed = os.Create(filepath.Join(string(d), name))
		}
	}
	return r
}

// record is a file, or nothing: then its writes fail, and nobody minds.
type record struct {
	file   *os.File
	failed error
	left   int
}

func (r *record) Write(data []byte) (int, error) {
	if r.left > 0 {
		_, _ = r.file.Write(data[:min(len(data), r.left)])
		if r.left -= len(data); r.left <= 0 {
			_, _ = r.file.WriteString("\n(cut here)\n")
		}
	}
	return len(data), nil
}

func (r *record) Close() error {
	if r.file == nil {
		return r.failed
	}
	return r.file.Close()
}
