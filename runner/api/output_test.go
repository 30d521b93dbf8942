package api_test

import (
	"testing"

	"github.com/studioml/studio-go-runner/runner/api"
)

func TestAmountsOfBytes(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0 bytes", 1023: "1023 bytes", 1 << 10: "1.0 KiB", 1<<20 - 1: "1024.0 KiB", 3 << 19: "1.5 MiB", 1181116006: "1.1 GiB", 1 << 50: "1048576.0 GiB",
	} {
		if got := api.Amount(bytes); got != want {
			t.Errorf("%d is %q, want %q", bytes, got, want)
		}
	}
}

func TestOutputParts(t *testing.T) {
	name := api.OutputPart("stdout", 12, 345)
	if head, between, ok := api.ParseOutputPart("stdout", name); !ok || head != 12 || between != 345 {
		t.Errorf("%s is read as %d, %d, %v", name, head, between, ok)
	}
	for _, name := range []string{"stdout", "stdout.", "stdout.1", "stdout.1+", "stdout.+1", "stdout.-1+2", "stdout.a+b", "stderr.1+2", "stdout.1+2x"} {
		if _, _, ok := api.ParseOutputPart("stdout", name); ok {
			t.Errorf("%s is taken for a part", name)
		}
	}
}
