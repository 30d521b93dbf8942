package main

import (
	"archive/tar"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// base is what the files are added to.
type base struct {
	says      string // what it is, for people
	image     v1.Image
	libraries tree // without a base: what the files need
}

// scratch is the base where none is named.
func scratch() base {
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	return base{says: "none, with the C library of this machine", image: image}
}

// furniture is what a program expects to find besides libraries.
var furniture = tree{
	"etc/passwd": {kind: tar.TypeReg, mode: 0o644, text: "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"},
	"etc/group":  {kind: tar.TypeReg, mode: 0o644, text: "root:x:0:\nnonroot:x:65532:\nnogroup:x:65534:\n"},
	"tmp":        {kind: tar.TypeDir, mode: 0o1777},
}

// assemble makes the image: what seldom changes in a layer of its own, so that a
// new version of the files is all that a node must fetch.
func (c cli) assemble(from base, files tree, architecture string) (v1.Image, error) {
	manifest, err := from.image.MediaType()
	if err != nil {
		return nil, err
	}
	media := types.OCILayer
	if manifest == types.DockerManifestSchema2 {
		media = types.DockerLayer
	}
	alone := from.libraries != nil
	trees := []tree{files}
	if alone {
		below := maps.Clone(furniture)
		maps.Copy(below, from.libraries)
		trees = []tree{below, files}
	}
	image := from.image
	for _, t := range trees {
		layer, err := t.layer(media, alone)
		if err != nil {
			return nil, err
		}
		image, err = mutate.Append(image, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: "runner/deploy/image", Created: c.created()}})
		if err != nil {
			return nil, fmt.Errorf("add a layer: %w", err)
		}
	}

	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Created = c.created()
	config.OS, config.Architecture = "linux", architecture
	config.Config.User = c.User
	if c.Entrypoint != "" {
		// What belonged to the base's program goes with it.
		config.Config.Entrypoint, config.Config.Cmd = []string{c.Entrypoint}, nil
		config.Config.StopSignal, config.Config.Healthcheck = "", nil
	}
	config.Config.Env = environment(config.Config.Env, c.Env)
	if config.Config.Labels == nil {
		config.Config.Labels = map[string]string{}
	}
	for key, value := range map[string]string{
		"title": c.Title, "version": c.ImgVersion, "revision": c.Revision,
		"source": "https://github.com/studioml/studio-go-runner", "licenses": "Apache-2.0",
	} {
		config.Config.Labels["org.opencontainers.image."+key] = value
	}
	return mutate.ConfigFile(image, config)
}

// environment adds variables, or replaces those of the same names.
func environment(base, set []string) []string {
	all := slices.Clone(base)
	if !slices.ContainsFunc(base, named("PATH")) {
		all = append(all, searchPath)
	}
	for _, v := range set {
		name, _, _ := strings.Cut(v, "=")
		all = append(slices.DeleteFunc(all, named(name)), v)
	}
	return all
}

// named finds a variable by its name.
func named(name string) func(string) bool {
	return func(v string) bool { return strings.HasPrefix(v, name+"=") }
}
