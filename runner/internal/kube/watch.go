package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
)

// The types of events.
const (
	Added    = "ADDED"
	Modified = "MODIFIED"
	Deleted  = "DELETED"
	Bookmark = "BOOKMARK" // nothing happened up to the version of its object
)

// Stream is the answer to a watch.
type Stream struct {
	io.Closer
	limit   *io.LimitedReader
	decoder *json.Decoder
}

// Watch begins a watch; it ends with ctx, or with Close.
func (c *Client) Watch(ctx context.Context, path string, query url.Values) (*Stream, error) {
	query.Set("watch", "true")
	body, err := c.send(ctx, "GET", path, query, "", nil)
	if err != nil {
		return nil, err
	}
	return newStream(body), nil
}

func newStream(body io.ReadCloser) *Stream {
	limit := &io.LimitedReader{R: body}
	return &Stream{body, limit, json.NewDecoder(limit)}
}

// Object is what the object of an event is read into: a struct with a Refusal in it, for that
// comes instead of an object where the server ends the watch. One that is read at once
// costs half of what it costs to look for its type first, and all runners read at the
// same time.
type Object interface{ refusal() *Refusal }

func (r *Refusal) refusal() *Refusal { return r }

// Next waits for an event and reads its object. A Refusal is the server's
// reason for ending the watch; io.EOF is an end without one.
func (s *Stream) Next(object Object) (kind string, err error) {
	s.limit.N = answerLimit
	event := struct {
		Type   string `json:"type"`
		Object any    `json:"object"`
	}{Object: object}
	if err := s.decoder.Decode(&event); err != nil {
		return "", plain(err)
	}
	switch event.Type {
	case Added, Modified, Deleted, Bookmark:
	case "ERROR":
		err = new(*object.refusal())
	default:
		err = fmt.Errorf("the watch delivers %.40q, which is no event", event.Type)
	}
	return event.Type, err
}
