package statemap

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/studioml/studio-go-runner/runner/api"
)

// NodeMapName returns the name of the node map for a host name, or an error
// that says why this runner has none.
func NodeMapName(hostname string) (string, error) {
	var problem string
	switch unfit := validation.IsDNS1123Subdomain(hostname); {
	case hostname == "":
		problem = "is not set"
	case hostname == api.GlobalMapName:
		problem = "is the name of the global map"
	case len(unfit) > 0:
		problem = fmt.Sprintf("is %s, which no ConfigMap can be named (%s)", api.Excerpt(hostname), unfit[0])
	default:
		return hostname, nil
	}
	return "", fmt.Errorf("HOSTNAME %s, so there is no node map; only the global map counts", problem)
}
