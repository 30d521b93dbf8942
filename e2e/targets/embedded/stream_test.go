package embedded_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
)

func TestStreamReachesEveryReader(t *testing.T) {
	const items = 500
	stream := embedded.NewStream(0)
	var want []string
	for i := range items {
		want = append(want, fmt.Sprint(i))
	}
	got := make([][]string, 5)
	var readers sync.WaitGroup
	for i := range got {
		if i == len(got)/2 { // the later readers come when half of it is over
			for _, item := range want[:items/2] {
				stream.Add(item)
			}
		}
		readers.Go(func() {
			if err := stream.Follow(t.Context(), func(item string) { got[i] = append(got[i], item) }); err != nil {
				t.Error(err)
			}
		})
	}
	for _, item := range want[items/2:] {
		stream.Add(item)
	}
	stream.Close()
	readers.Wait()
	for i := range got {
		if diff := cmp.Diff(want, got[i]); diff != "" {
			t.Errorf("reader %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestStreamTellsLoss(t *testing.T) {
	stream := embedded.NewStream(10)
	for i := range 25 {
		stream.Add(fmt.Sprint(i))
	}
	stream.Close()
	err := stream.Follow(t.Context(), func(string) {})
	if err == nil || !strings.Contains(err.Error(), "entries of the record are gone") {
		t.Errorf("error is %v", err)
	}
}

func TestStreamEndsWithContext(t *testing.T) {
	stream := embedded.NewStream(0)
	stream.Add("a")
	ctx, cancel := context.WithCancel(t.Context())
	if err := stream.Follow(ctx, func(string) { cancel() }); err != nil {
		t.Error(err)
	}
}
