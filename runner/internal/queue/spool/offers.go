package spool

import (
	"context"
	"encoding/json"
	"os"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// offersDir has a file for each runner, which it keeps locked for as long as it lives.
const offersDir = "runners"

var _ queue.Offers = (*Spool)(nil)

// Announce implements queue.Offers.
func (s *Spool) Announce(_ context.Context, o api.Offer) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return errClosed
	}
	if s.offer != nil && !isAt(s.offer, s.offer.Name()) {
		s.removeOffer() // somebody has removed it
	}
	text = append(text, '\n')
	if s.offer == nil {
		if err := makeDir(s.path(offersDir)); err != nil {
			return err
		}
		if s.offer, err = newLock(s.path(offersDir, "offer-"+token())); err != nil {
			return err
		}
	}
	return overwrite(s.offer, text)
}

// removeOffer must be called with the lock held.
func (s *Spool) removeOffer() {
	if s.offer != nil {
		os.Remove(s.offer.Name())
		s.offer.Close()
		s.offer = nil
	}
}

// Offers implements queue.Offers. It removes those of runners that have died.
func (s *Spool) Offers(context.Context) ([]api.Offer, error) {
	names, err := fileNames(s.path(offersDir))
	if err != nil && !missing(err) {
		return nil, err
	}
	offers := []api.Offer{}
	for _, name := range names {
		path := s.path(offersDir, name)
		free, err := ifFree(path, func(*os.File) error { return os.Remove(path) })
		var o api.Offer
		if text, _ := readFile(path, 1<<20); err == nil && !free && json.Unmarshal(text, &o) == nil { // else it is being written, or has just ended
			offers = append(offers, o)
		}
	}
	return offers, nil
}
