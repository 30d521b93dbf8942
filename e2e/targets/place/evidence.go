package place

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// Limits of the evidence, in bytes.
const (
	maxFile = 64 << 20
	maxTail = 4 << 20 // of the journal
)

// Collect saves queue, journal and objects, as far as they can be had.
func (p *Place) Collect(ctx context.Context) error {
	if p.Isolation.Artifacts == "" {
		return nil
	}
	problems := []error{p.CollectObjects(ctx)}
	if p.Layout.Adapter == nil { // else nobody sees into the queue
		queue, err := p.Queue(ctx)
		if err == nil {
			err = p.saveYAML("queue.yaml", queue)
		}
		problems = append(problems, err)
	}
	journal, failed := p.Output(ctx, nil, "tail", "-c", fmt.Sprint(maxTail), p.Layout.Journal)
	return errors.Join(append(problems, failed, p.Save("journal", journal))...)
}

// CollectObjects saves what there is in the namespaces: maps, Events, Roles, pods,
// volume claims and workloads.
func (p *Place) CollectObjects(ctx context.Context) error {
	var problems []error
	for _, name := range p.Namespaces() {
		prefix := ""
		if name != p.namespace {
			prefix = "elsewhere-"
		}
		core, apps := p.Admin.CoreV1(), p.Admin.AppsV1()
		problems = append(problems,
			saveList(ctx, p, core.ConfigMaps(name).List, prefix+"maps.yaml"),
			saveList(ctx, p, core.Events(name).List, prefix+"events.yaml"),
			saveList(ctx, p, p.Admin.RbacV1().Roles(name).List, prefix+"roles.yaml"),
			saveList(ctx, p, core.Pods(name).List, prefix+"pods.yaml"),
			saveList(ctx, p, core.PersistentVolumeClaims(name).List, prefix+"claims.yaml"),
			saveList(ctx, p, p.Admin.BatchV1().Jobs(name).List, prefix+"jobs.yaml"),
			saveList(ctx, p, apps.Deployments(name).List, prefix+"deployments.yaml"),
			saveList(ctx, p, apps.StatefulSets(name).List, prefix+"statefulsets.yaml"))
	}
	return errors.Join(problems...)
}

// saveList saves the objects of one kind, without what only servers read; no
// file for no objects.
func saveList[L runtime.Object](ctx context.Context, p *Place, list func(context.Context, metav1.ListOptions) (L, error), file string) error {
	objects, err := list(ctx, metav1.ListOptions{Limit: 200})
	if err != nil {
		return fmt.Errorf("collect %s: %w", file, err)
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(objects)
	if err != nil {
		return fmt.Errorf("collect %s: %w", file, err)
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
	return p.saveYAML(file, items)
}

func (p *Place) saveYAML(file string, value any) error {
	data, err := yaml.Marshal(value)
	if err != nil {
		return fmt.Errorf("collect %s: %w", file, err)
	}
	return p.Save(file, data)
}

// Save writes a file of the evidence.
func (p *Place) Save(name string, data []byte) error {
	file, err := p.Record(name)
	if err != nil {
		return err
	}
	_, _ = file.Write(data)
	return file.Close()
}

// Record is a file of the evidence that is written as things happen. Writing to
// it never fails, so that a full disk does not change what a scenario shows; it
// takes no more than a bound, and says so at its end.
func (p *Place) Record(name string) (io.WriteCloser, error) {
	if p.Isolation.Artifacts == "" {
		return &record{}, nil
	}
	if err := os.MkdirAll(p.Isolation.Artifacts, 0o755); err != nil {
		return nil, err
	}
	file, err := os.Create(filepath.Join(p.Isolation.Artifacts, name))
	return &record{file: file, left: maxFile}, err
}

// record is a file, or nothing.
type record struct {
	file *os.File
	left int
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
		return nil
	}
	return r.file.Close()
}
