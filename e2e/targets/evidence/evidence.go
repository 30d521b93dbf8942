// Package evidence is the directory of files that a failed scenario leaves
// behind for people.
package evidence

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// maxFile bounds each file, in bytes.
const maxFile = 16 << 20

// Dir is the directory; empty for none.
type Dir string

// Save writes a file, and says in it if it is not all.
func (d Dir) Save(name string, data []byte) error {
	if d == "" {
		return nil
	}
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		return err
	}
	if len(data) > maxFile {
		data = append(data[:maxFile:maxFile], "\n(cut here)\n"...)
	}
	return os.WriteFile(filepath.Join(string(d), name), data, 0o644)
}

// SaveJSON writes a value, unless it could not be had.
func (d Dir) SaveJSON(name string, value any, err error) error {
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return d.Save(name, data)
}
