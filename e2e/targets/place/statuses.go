package place

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Statuses calls each for what is newer than after in a stream of statuses, as /statusz
// sends to who watches, until it ends. It returns the sequence number of the newest. A
// stream that breaks is no error, and one that says what is no status is.
func Statuses(stream io.Reader, after uint64, each func(api.Status)) (newest uint64, _ error) {
	for lines := bufio.NewReader(stream); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return after, nil // what there is of a line comes again
		}
		var status api.Status
		if err := json.Unmarshal(line, &status); err != nil {
			return after, fmt.Errorf("its status is %s: %w", api.Excerpt(string(line)), err)
		}
		if status.Sequence > after {
			after = status.Sequence
			each(status)
		}
	}
}
