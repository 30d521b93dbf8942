package queue

import (
	"context"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Offers is what runners say of themselves where tasks wait, so that the owners of
// tasks learn why. It changes nothing of what is run.
type Offers interface {
	// Announce shows an offer instead of the one before, until the runner ends. It is
	// called again now and then, for queues that take silence for an end.
	Announce(ctx context.Context, o api.Offer) error
	// Offers returns the newest offer of each runner that lives.
	Offers(ctx context.Context) ([]api.Offer, error)
}
