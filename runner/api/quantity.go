package api

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Duration is the timeout of a task, which documents write as "90s".
type Duration time.Duration

// MarshalJSON writes the duration as text.
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(d).String())
}

// UnmarshalJSON reads text like "1h30m".
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("timeout: is %s; must be text with a unit, as 90s", Excerpt(string(data)))
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("timeout: is %s; must be text with a unit, as 90s", Excerpt(text))
	}
	*d = Duration(parsed)
	return nil
}

// Time is a moment, which documents write as 2026-12-31T23:59:00Z.
type Time struct{ time.Time }

// UnmarshalJSON reads such a text.
func (t *Time) UnmarshalJSON(data []byte) error {
	if err := t.Time.UnmarshalJSON(data); err != nil {
		return fmt.Errorf("expires: is %s; must be a time with its zone, as 2026-12-31T23:59:00Z", Excerpt(strings.Trim(string(data), `"`)))
	}
	return nil
}

// Bytes is an amount of GPU memory, which documents write as a number or, in
// Kubernetes' notation, as 16Gi.
type Bytes uint64

// MarshalJSON writes the plain number of bytes.
func (b Bytes) MarshalJSON() ([]byte, error) { return json.Marshal(uint64(b)) }

// UnmarshalJSON reads a number or a quantity.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	text := string(data)
	if len(data) > 0 && data[0] == '"' {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() < 0 || q.CmpInt64(math.MaxInt64) > 0 {
		return fmt.Errorf("resources.gpuMemory: is %s; must be bytes or an amount like 16Gi", Excerpt(text))
	}
	*b = Bytes(q.Value())
	return nil
}
