package statemap_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/kube"
	"github.com/studioml/studio-go-runner/runner/internal/statemap"
)

// roundTripper answers requests without a network, in a bubble of fake time.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	httptrace.ContextClientTrace(r.Context()).GotConn(httptrace.GotConnInfo{}) // there is one for each
	return f(r)
}

func newMaps(t *testing.T, node string, answer roundTripper) *statemap.Maps {
	client, err := kube.New(&rest.Config{Host: "http://api.invalid", WrapTransport: func(http.RoundTripper) http.RoundTripper { return answer }})
	if err != nil {
		t.Fatal(err)
	}
	return statemap.New(client, namespace, node, slog.New(slog.DiscardHandler))
}

func response(r *http.Request, what object) *http.Response {
	text, _ := json.Marshal(what)
	return &http.Response{StatusCode: http.StatusOK, Request: r, Body: io.NopCloser(strings.NewReader(string(text))),
		Header: http.Header{"Content-Type": {"application/json"}}}
}

// One connection that is lost uses up five of the thirty seconds that the
// lifecycle has for a fresh read, and not all of them.
func TestFreshGivesUpOnALostConnectionAndAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []time.Duration
		start := time.Now()
		var last context.Context
		m := newMaps(t, "", func(r *http.Request) (*http.Response, error) {
			asked = append(asked, time.Since(start))
			if last = r.Context(); len(asked) == 1 {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			if strings.HasSuffix(r.URL.Path, "/"+namespace) {
				return response(r, object{}), nil
			}
			return response(r, ConfigMap(api.GlobalMapName, "6", "DrainAndTerminate")), nil
		})
		got, err := m.ReadFresh(t.Context())
		if err != nil || got.Global.Value != "DrainAndTerminate" {
			t.Errorf("ReadFresh gives %+v, %v", got, err)
		}
		if len(asked) != 4 || asked[1] != 5*time.Second || asked[2] < 5*time.Second || asked[3] > 7*time.Second {
			t.Errorf("asked at %v, want for both again once five seconds and a pause are over", asked)
		}
		if last.Err() == nil {
			t.Error("the context of a request that is over lives on")
		}
	})
}

// What the last try found is what is told.
func TestFreshInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMaps(t, "", func(r *http.Request) (*http.Response, error) {
			away := response(r, object{})
			away.StatusCode = http.StatusServiceUnavailable
			return away, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if fresh, err := m.ReadFresh(ctx); err == nil || !strings.Contains(err.Error(), "Service Unavailable") {
			t.Errorf("ReadFresh gives %+v, %v", fresh, err)
		}
	})
}

// Run waits for both watches: nothing of it goes on when it has returned.
func TestRunEndsWithBothWatches(t *testing.T) {
	for _, slow := range []string{api.GlobalMapName, "node-1"} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			m := newMaps(t, "node-1", func(r *http.Request) (*http.Response, error) {
				if strings.HasSuffix(r.URL.Query().Get("fieldSelector"), "="+slow) {
					<-release // it hangs, and does not obey
				} else {
					<-r.Context().Done()
				}
				return nil, r.Context().Err()
			})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- m.Run(ctx) }()
			synctest.Wait()
			cancel()
			synctest.Wait()
			if len(ended) > 0 {
				t.Errorf("Run has returned while a request for %s goes on", slow)
			}
			close(release)
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
