package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/common/model"

	"github.com/studioml/studio-go-runner/runner/api"
)

// span is a duration that may be in days.
type span time.Duration

// UnmarshalText implements encoding.TextUnmarshaler, which kong knows.
func (s *span) UnmarshalText(text []byte) error {
	d, err := model.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("is %s; must be a time as 30d or 12h", api.Excerpt(string(text)))
	}
	*s = span(d)
	return nil
}

// count counts from 1; 0 is what nobody has given.
type count int

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *count) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil || n == 0 {
		return fmt.Errorf("is %s; must be 1 or more", api.Excerpt(string(text)))
	}
	*c = count(n)
	return nil
}
