// Package nodeimage makes an image for the nodes of a kind cluster without a
// container registry: Kubernetes, containerd and CoreDNS from Go modules, the
// rest from Debian's packages and from the files that kind itself lays into its
// images. It is made once per version, and kept in Docker; its parts are kept in
// the user's cache directory.
package nodeimage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// keyOf names content by what it is made from.
func keyOf(parts ...string) string {
	hash := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(hash, "%d\n%s\n", len(part), part)
	}
	return hex.EncodeToString(hash.Sum(nil))[:12]
}
