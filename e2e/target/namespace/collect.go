package namespace

import (
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"
)

// Collect saves what there is in a namespace, as YAML, for a look after a
// failure: maps, Events, Roles, pods, volume claims and workloads. Without a name
// it does nothing.
func Collect(ctx context.Context, client kubernetes.Interface, name, prefix string, save func(file string, data []byte) error) error {
	if name == "" {
		return nil
	}
	limit := metav1.ListOptions{Limit: 200}
	var problems []error
	note := func(what string, list runtime.Object, err error) {
		if err == nil {
			err = saveObjects(prefix+what+".yaml", list, save)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("collect %s: %w", what, err))
		}
	}
	maps, err := client.CoreV1().ConfigMaps(name).List(ctx, limit)
	note("maps", maps, err)
	events, err := client.CoreV1().Events(name).List(ctx, limit)
	note("events", events, err)
	roles, err := client.RbacV1().Roles(name).List(ctx, limit)
	note("roles", roles, err)
	pods, err := client.CoreV1().Pods(name).List(ctx, limit)
	note("pods", pods, err)
	claims, err := client.CoreV1().PersistentVolumeClaims(name).List(ctx, limit)
	note("claims", claims, err)
	jobs, err := client.BatchV1().Jobs(name).List(ctx, limit)
	note("jobs", jobs, err)
	deployments, err := client.AppsV1().Deployments(name).List(ctx, limit)
	note("deployments", deployments, err)
	sets, err := client.AppsV1().StatefulSets(name).List(ctx, limit)
	note("statefulsets", sets, err)
	return errors.Join(problems...)
}

// saveObjects writes the items of a list, without what only servers read; no
// file for no items.
func saveObjects(file string, list runtime.Object, save func(string, []byte) error) error {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(list)
	if err != nil {
		return err
	}
	items, _ := object["items"].([]any)
	if len(items) == 0 {
		return nil
	}
	for _, item := range items {
		if fields, ok := item.(map[string]any); ok {
			if meta, ok := fields["metadata"].(map[string]any); ok {
				delete(meta, "managedFields")
			}
		}
	}
	data, err := yaml.Marshal(items)
	if err != nil {
		return err
	}
	return save(file, data)
}
