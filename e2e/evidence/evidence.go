// Package evidence is what a scenario leaves for people, who need it after a failure.
package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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
	for file, kind := range map[string][2]string{
		"maps": {"v1", "ConfigMapList"}, "events": {"v1", "EventList"}, "pods": {"v1", "PodList"},
		"claims": {"v1", "PersistentVolumeClaimList"}, "roles": {"rbac.authorization.k8s.io/v1", "RoleList"},
		"jobs": {"batch/v1", "JobList"}, "deployments": {"apps/v1", "DeploymentList"}, "statefulsets": {"apps/v1", "StatefulSetList"},
	} {
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion(kind[0])
		list.SetKind(kind[1])
		err := namespace.List(ctx, list, func(o *metav1.ListOptions) { o.Limit = 200 })
		for i := range list.Items {
			list.Items[i].SetManagedFields(nil) // only servers read them
		}
		if len(list.Items) > 0 {
			err = d.YAML(file+".yaml", list.Items)
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
