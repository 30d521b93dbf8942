package statemap

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// ConfigMap is what counts of a ConfigMap. Who wrote what is for people who ask: to take
// that apart is the larger part of what it costs to read one.
type ConfigMap struct {
	Metadata struct {
		Name            string            `json:"name"`
		ResourceVersion string            `json:"resourceVersion"`
		Annotations     map[string]string `json:"annotations"`
		ManagedFields   json.RawMessage   `json:"managedFields"`
	} `json:"metadata"`
	Data       map[string]string          `json:"data"`
	BinaryData map[string]json.RawMessage `json:"binaryData"`
}

// View is what is known to who has just read the map.
func (m *ConfigMap) View() lifecycle.View {
	v := lifecycle.View{Name: m.Metadata.Name}
	fill(&v, m)
	return v
}

// fill copies what counts of a map into its view.
func fill(v *lifecycle.View, m *ConfigMap) {
	v.Known, v.Present, v.Gone = true, true, time.Time{}
	v.Value = m.Data[api.StateKey]
	_, v.InBinaryData = m.BinaryData[api.StateKey]
	v.Instead = ""
	if _, ok := m.Data[api.StateKey]; !ok && !v.InBinaryData {
		v.Instead = meant(m)
	}
	v.Why, v.Deadline = m.Metadata.Annotations[api.AnnotationReason], m.Metadata.Annotations[api.AnnotationDeadline]
	v.ResourceVersion = m.Metadata.ResourceVersion
}

// gone notes that the map is not there, as of a version.
func gone(v *lifecycle.View, version string) {
	if v.Present {
		v.Gone = time.Now()
	}
	if order, err := resourceversion.CompareResourceVersion(version, v.ResourceVersion); err != nil || order > 0 {
		v.ResourceVersion = version
	}
	v.Known, v.Present, v.Value, v.InBinaryData, v.Instead, v.Why, v.Deadline = true, false, "", false, "", "", ""
}

// stateLine is how a manifest or an env file that was put into a map as a whole
// sets the state.
var stateLine = regexp.MustCompile(`(?m)^\s*"?STATE"?\s*[:=]`)

// meant finds the key that was probably meant to be STATE: one that is spelled
// alike, whatever its case, one with a file's suffix, or one that holds a file.
func meant(m *ConfigMap) string {
	for _, key := range slices.Sorted(maps.Keys(m.Data)) {
		word, _, _ := strings.Cut(key, ".")
		word = strings.Trim(strings.ToUpper(word), "-_")
		if word == api.StateKey || word == api.StateKey+"S" || stateLine.MatchString(m.Data[key]) {
			return key
		}
	}
	for _, key := range slices.Sorted(maps.Keys(m.BinaryData)) {
		if strings.EqualFold(key, api.StateKey) {
			return key
		}
	}
	return ""
}
