package nodeimage

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestTagIsStable(t *testing.T) {
	first, err := Tag(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := Tag(t.Context())
	if err != nil || first != second || !strings.HasPrefix(first, "studio-go-runner/node:v1.") {
		t.Errorf("tags are %q and %q, %v", first, second, err)
	}
}

func TestPossibleSaysWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := Possible()
	if !errors.Is(err, ErrImpossible) {
		t.Errorf("the error is of another kind: %v", err)
	}
	want := "apt-get install debootstrap gcc libc6-dev tar"
	if os.Geteuid() != 0 {
		want = "run this as root"
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v", err)
	}
}
