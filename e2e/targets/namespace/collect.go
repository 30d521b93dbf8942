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
	return errors.Join(
		saveList(ctx, client.CoreV1().ConfigMaps(name).List, prefix+"maps.yaml", save),
		saveList(ctx, client.CoreV1().Events(name).List, prefix+"events.yaml", save),
		saveList(ctx, client.RbacV1().Roles(name).List, prefix+"roles.yaml", save),
		saveList(ctx, client.CoreV1().Pods(name).List, prefix+"pods.yaml", save),
		saveList(ctx, client.CoreV1().PersistentVolumeClaims(name).List, prefix+"claims.yaml", save),
		saveList(ctx, client.BatchV1().Jobs(name).List, prefix+"jobs.yaml", save),
		saveList(ctx, client.AppsV1().Deployments(name).List, prefix+"deployments.yaml", save),
		saveList(ctx, client.AppsV1().StatefulSets(name).List, prefix+"statefulsets.yaml", save))
}

// saveList saves the objects of one kind.
func saveList[L runtime.Object](ctx context.Context, list func(context.Context, metav1.ListOptions) (L, error), file string, save func(string, []byte) error) error {
	objects, err := list(ctx, metav1.ListOptions{Limit: 200})
	if err == nil {
		err = saveObjects(file, objects, save)
	}
	if err != nil {
		return fmt.Errorf("collect %s: %w", file, err)
	}
	return nil
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
