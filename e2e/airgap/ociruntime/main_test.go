package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDocumentOf(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", ""},
		{"--version", ""},
		{"--root /r --log /l --log-format json create --bundle /b --pid-file /p id", "/b/config.json"},
		{"--log create delete --force id", ""},
		{"--root /r exec --process /p.json --detach id", "/p.json"},
		{"exec id true", ""}, // its capabilities are the container's
		{"exec --process", ""},
	} {
		if got := documentOf(strings.Fields(c.args)); got != c.want {
			t.Errorf("%q: got %q, want %q", c.args, got, c.want)
		}
	}
}

func TestDropCapability(t *testing.T) {
	const process = `{"args":["sh"],"capabilities":{"bounding":["CAP_KILL"%[1]s],"effective":[],"permitted":null},"rlimits":[{"hard":18446744073709551615}]}`
	with := strings.ReplaceAll(process, "%[1]s", `,"CAP_SYS_RESOURCE"`)
	without := strings.ReplaceAll(process, "%[1]s", "")
	for _, c := range []struct{ name, in, want string }{
		{"config.json", `{"process":` + with + `}`, `{"process":` + without + `}`},
		{"process file", with, without},
		{"the first", strings.ReplaceAll(process, `"CAP_KILL"%[1]s`, `"CAP_SYS_RESOURCE", "CAP_KILL"`), strings.ReplaceAll(process, `"CAP_KILL"%[1]s`, ` "CAP_KILL"`)},
		{"the only one", strings.ReplaceAll(process, `"CAP_KILL"%[1]s`, `"CAP_SYS_RESOURCE"`), strings.ReplaceAll(process, `"CAP_KILL"%[1]s`, "")},
		{"nothing to remove", without, without},
		{"no process", `{"root":{"path":"rootfs"}}`, `{"root":{"path":"rootfs"}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "file.json")
			if err := os.WriteFile(file, []byte(c.in), 0o640); err != nil {
				t.Fatal(err)
			}
			if err := dropCapability(file); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	if err := dropCapability(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("no error for a missing file")
	}
}
