// Package deploy holds the manifests that are shipped with the runner, so that
// the tests use the very files that people apply.
package deploy

import "embed"

// Files holds the manifests, in the directories that people see.
//
//go:embed base common conditions job deployment statefulset gpu fake-gpu postgres example tests
var Files embed.FS
