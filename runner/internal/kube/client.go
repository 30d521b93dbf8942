// Package kube is the runner's client of the API server: plain requests, and of
// the answers the few fields that a runner needs. Every failure reaches the
// caller at once and with its reason; nothing is retried here. What kubeconfigs,
// tokens, certificates and exec plugins mean is left to client-go.
package kube

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"k8s.io/client-go/rest"
)

// answerLimit bounds an answer, or an event of a watch: an object of 1.5 MiB,
// the most that an API server stores, with every byte escaped.
const answerLimit = 12 << 20

// Client talks to one API server.
type Client struct {
	http  *http.Client
	base  *url.URL
	heard atomic.Int64               // Unix time in ns of the last byte that was read
	ahead atomic.Pointer[connecting] // the request that the others wait for, if there is one
}

// New makes a client; it connects when it is first used.
func New(config *rest.Config) (*Client, error) {
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("address of the API server: %w", err)
	}
	c := &Client{base: base}
	transport, err := c.newTransport(config)
	if err != nil {
		return nil, fmt.Errorf("make Kubernetes client: %w", err)
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &http.Client{Transport: transport, CheckRedirect: stay}
	return c, nil
}

// Heard is when the last byte came from the API server, the answers to pings
// included; zero if none ever came, or there is no client.
func (c *Client) Heard() time.Time {
	if c == nil || c.heard.Load() == 0 {
		return time.Time{}
	}
	return time.Unix(0, c.heard.Load())
}

// Get reads an object or a list.
func (c *Client) Get(ctx context.Context, path string, query url.Values, into any) error {
	body, err := c.send(ctx, http.MethodGet, path, query, "", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, answerLimit)).Decode(into); err != nil {
		return fmt.Errorf("read the API server's answer: %w", err)
	}
	return nil
}

// Create makes an object.
func (c *Client) Create(ctx context.Context, path string, object any) error {
	return c.write(ctx, http.MethodPost, path, nil, "application/json", object)
}

// Apply is how a Patch leaves to others what it does not name.
const Apply = "application/apply-patch+yaml"

// Patch changes an object, or makes one, in the way that the type of the patch stands for.
func (c *Client) Patch(ctx context.Context, path string, query url.Values, patchType string, patch any) error {
	return c.write(ctx, http.MethodPatch, path, query, patchType, patch)
}

func (c *Client) write(ctx context.Context, method, path string, query url.Values, contentType string, object any) error {
	content, err := json.Marshal(object)
	if err != nil {
		return err
	}
	body, err := c.send(ctx, method, path, query, contentType, content)
	if err != nil {
		return err
	}
	return body.Close()
}

// send returns the body of an answer that is no refusal.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, contentType string, content []byte) (io.ReadCloser, error) {
	address := c.base.JoinPath(path)
	address.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, method, address.String(), bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "studio-go-runner")
	if content != nil {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.do(request)
	if err != nil {
		return nil, plain(err)
	}
	if response.StatusCode < 300 {
		return response.Body, nil
	}
	defer response.Body.Close()
	refusal := new(Refusal)
	if err := json.NewDecoder(io.LimitReader(response.Body, answerLimit)).Decode(refusal); err != nil {
		refusal.Message = "" // not from an API server; the code says enough
	}
	refusal.Code, refusal.Later = response.StatusCode, later(response.Header.Get("Retry-After"))
	return nil, refusal
}

// later is how long a server wants to be left alone, which API servers say in seconds. It is
// very long where that cannot be read.
func later(header string) time.Duration {
	if header == "" {
		return 0
	}
	seconds, err := strconv.ParseUint(header, 10, 31)
	if err != nil {
		return time.Hour
	}
	return time.Duration(seconds) * time.Second
}

// connecting is a request that waits for a connection.
type connecting struct {
	done chan struct{}
	err  error // why there is none, once that is done
}

// do has a request wait while another waits for a connection: that one will do for both, or
// neither gets one. Else each would open one, and close it again; for a fleet that comes
// back after an outage these are twice as many handshakes, which are most of what it asks
// of the server.
func (c *Client) do(request *http.Request) (*http.Response, error) {
	ctx, mine := request.Context(), &connecting{done: make(chan struct{})}
	for !c.ahead.CompareAndSwap(nil, mine) {
		other := c.ahead.Load()
		if other == nil {
			continue
		}
		select {
		case <-other.done:
			if other.err != nil {
				return nil, other.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	var once sync.Once
	connected := func(err error) {
		once.Do(func() {
			mine.err = err
			c.ahead.Store(nil)
			close(mine.done)
		})
	}
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected(nil) }}
	response, err := c.http.Do(request.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if ctx.Err() != nil {
		connected(nil) // that this request was ended says nothing to the others
	}
	connected(err)
	return response, err
}

// plain drops what differs with each try and says nothing to people: the
// address of the request and the port on this side.
func plain(err error) error {
	if address, ok := errors.AsType[*url.Error](err); ok {
		err = address.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Addr != nil {
		err = fmt.Errorf("%s %s: %w", op.Op, op.Addr, op.Err)
	}
	return err
}

// Refusal is the answer of an API server that does not do what it was asked for: a
// Status.
type Refusal struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	// Later is how long the server asked to be left alone.
	Later time.Duration `json:"-"`
}

func (r *Refusal) Error() string {
	text := fmt.Sprintf("the API server answers %d %s", r.Code, cmp.Or(http.StatusText(r.Code), "without a word"))
	const longest = 200
	message := strings.ToValidUTF8(r.Message[:min(len(r.Message), longest)], "")
	if strings.ContainsFunc(message, func(c rune) bool { return !unicode.IsPrint(c) }) {
		message = strconv.Quote(message)
	}
	if message != "" {
		text += ": " + message
	}
	return text
}

// Code returns the status of a refusal, 0 for other errors and for none.
func Code(err error) int {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return refusal.Code
	}
	return 0
}
