package fleet

import (
	"context"
	"net/url"
	"strconv"

	"github.com/studioml/studio-go-runner/runner/internal/kube"
	"github.com/studioml/studio-go-runner/runner/internal/statemap"
)

// How many objects are asked for at once. A map may have a megabyte, and what a
// namespace has of other maps must not make an answer too large.
const (
	podsAtOnce = 200
	mapsAtOnce = 8
)

// Read reads the runners of a namespace whose pods a label selector finds.
func Read(ctx context.Context, client *kube.Client, namespace, selector string) ([]Runner, error) {
	pods, err := list[Pod](ctx, client, "/api/v1/namespaces/"+namespace+"/pods", url.Values{"labelSelector": {selector}}, podsAtOnce)
	if err != nil {
		return nil, err
	}
	maps, err := list[statemap.ConfigMap](ctx, client, "/api/v1/namespaces/"+namespace+"/configmaps", url.Values{}, mapsAtOnce)
	if err != nil {
		return nil, err
	}
	return Runners(pods, maps), nil
}

func list[T any](ctx context.Context, client *kube.Client, path string, query url.Values, atOnce int) (all []T, err error) {
	query.Set("limit", strconv.Itoa(atOnce))
	for {
		var page struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []T `json:"items"`
		}
		if err := client.Get(ctx, path, query, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Metadata.Continue == "" {
			return all, nil
		}
		query.Set("continue", page.Metadata.Continue)
	}
}
