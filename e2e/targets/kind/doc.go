// Package kind makes a kind cluster for the tests: nodes that are containers of
// the Docker that answers. Where none does, or kind's published node image is out
// of reach, the program e2e/airgap makes both.
package kind
