package postgres

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

var _ queue.Offers = (*Queue)(nil)

// Announce implements queue.Offers.
func (q *Queue) Announce(_ context.Context, o api.Offer) error {
	document, err := json.Marshal(o)
	if err == nil {
		_, err = ask(q, q.pool, pgx.RowTo[string], "announce", o.Runner, document)
	}
	return err
}

// Offers implements queue.Offers.
func (q *Queue) Offers(context.Context) ([]api.Offer, error) {
	documents, err := ask(q, q.pool, pgx.RowTo[[]byte], "offers")
	offers := make([]api.Offer, len(documents))
	for i, document := range documents {
		err = errors.Join(err, json.Unmarshal(document, &offers[i]))
	}
	return offers, err
}
