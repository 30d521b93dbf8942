package statemap

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/studioml/studio-go-runner/runner/api"
)

// NodeMapName returns the name of the node map for a host name, or an error
// that says why this runner has none.
func NodeMapName(hostname string) (string, error) {
	switch {
	case hostname == "":
		return "", fmt.Errorf("HOSTNAME is not set, so there is no node map; only the global map counts")
	case hostname == api.GlobalMapName:
		return "", fmt.Errorf("HOSTNAME is the name of the global map, so there is no node map; only the global map counts")
	}
	if problems := validation.IsDNS1123Subdomain(hostname); len(problems) > 0 {
		return "", fmt.Errorf("HOSTNAME is %s, which no ConfigMap can be named, so there is no node map; only the global map counts: %s",
			api.Excerpt(hostname), problems[0])
	}
	return hostname, nil
}
