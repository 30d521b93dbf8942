package deploy_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/studioml/studio-go-runner/runner/deploy"
)

// An API server takes a misspelled field with a warning that nobody reads.
func TestManifestsHaveNoUnknownFields(t *testing.T) {
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := 0
	err := fs.WalkDir(deploy.Files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".yaml" || entry.Name() == "kustomization.yaml" {
			return err
		}
		if path.Dir(name) == "monitoring" { // of kinds that an operator brings; TestMonitoring and promtool read them
			return nil
		}
		data, err := fs.ReadFile(deploy.Files, name)
		if err != nil {
			return err
		}
		reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
		for {
			document, err := reader.Read()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			documents++
			if _, _, err := decoder.Decode(document, nil, nil); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if documents == 0 {
		t.Error("no manifest was found")
	}
}
