package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var declared = regexp.MustCompile(`(?m)^func Benchmark(\w+)\(`)

// placesOf finds the packages of this repository that have the functions of benchmarks.
func placesOf(names []string) (map[string]string, error) {
	all := map[string]string{}
	for _, top := range []string{"e2e", "fakegpu", "runner"} {
		err := filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, name := range declared.FindAllSubmatch(text, -1) {
				all[string(name[1])] = filepath.Dir(path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	places := map[string]string{}
	for _, name := range names {
		place, ok := all[functionOf(name)]
		if !ok {
			return nil, fmt.Errorf("rows.yaml: there is no Benchmark%s", functionOf(name))
		}
		places[functionOf(name)] = place
	}
	return places, nil
}
