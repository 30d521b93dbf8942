// Package deploy holds the manifests that are shipped with the runner, so that
// the tests use the very files that people apply.
package deploy

import "embed"

// Base holds the directory base.
//
//go:embed base
var Base embed.FS
