// Package kind makes a kind cluster for the tests: nodes that are containers, on
// a Docker daemon that package docker found, from kind's published node image or
// from the one of package nodeimage.
package kind
