package spool

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

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
	if s.offer != nil && !isAt(s.offer, s.path(offersDir, filepath.Base(s.offer.Name()))) {
		s.removeOffer() // somebody has removed it
	}
	if s.offer == nil {
		if s.offer, err = s.newOffer(); err != nil {
			return err
		}
	}
	_, err = s.offer.WriteAt(append(text, '\n'), 0)
	return errors.Join(err, s.offer.Truncate(int64(len(text)+1)))
}

// newOffer makes the file elsewhere and locks it, so that nobody finds it unlocked.
func (s *Spool) newOffer() (*os.File, error) {
	name := "offer-" + token()
	f, err := os.OpenFile(s.path(tmpDir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, err
	}
	_, err = tryLock(f)
	if err == nil {
		err = os.MkdirAll(s.path(offersDir), dirMode)
	}
	if err == nil {
		err = os.Rename(f.Name(), s.path(offersDir, name))
	}
	if err != nil {
		os.Remove(f.Name())
		f.Close()
		return nil, err
	}
	return f, nil
}

// removeOffer must be called with the lock held.
func (s *Spool) removeOffer() {
	if s.offer != nil {
		os.Remove(s.path(offersDir, filepath.Base(s.offer.Name())))
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
		f, err := os.OpenFile(s.path(offersDir, name), os.O_RDWR, 0) // as network file systems want it for a lock
		if errors.Is(err, os.ErrPermission) {
			f, err = os.Open(s.path(offersDir, name))
		}
		if err != nil {
			continue // it has just ended
		}
		var o api.Offer
		if free, err := tryLock(f); err == nil && free {
			os.Remove(f.Name())
		} else if json.NewDecoder(f).Decode(&o) == nil { // else it is being written
			offers = append(offers, o)
		}
		f.Close()
	}
	return offers, nil
}
