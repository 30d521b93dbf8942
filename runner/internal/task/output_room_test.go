package task

import (
	"os"
	"path/filepath"
	"testing"
)

// Where parts have no directory, the begin has all the room.
func TestOutputWithoutParts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stdout")
	o, err := newOutput(path, nil, 16)
	if err != nil {
		t.Fatal(err)
	}
	defer o.parts[0].file.Close()
	if n, err := o.Write([]byte("0123456789abcdefghij")); n != 20 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	if kept, err := os.ReadFile(path); string(kept) != "0123456789abcdef" || err != nil || o.out != 4 {
		t.Errorf("%q is kept, %d bytes are not: %v", kept, o.out, err)
	}
}
