package network

import (
	"github.com/invopop/jsonschema"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// Fault is what lies between the runners and the API server. As a text it is
// "restore" (nothing), "cut" (connections are ended and refused), "drop" (they
// stay open, and nothing passes any more: no answer, no reset), or a duration
// after which each connection is ended, as 500ms. As a mapping it is what a server
// in front of the API server may do.
type Fault struct {
	// Mode is restore, cut or drop; empty if one of the others is set.
	Mode string `json:"-"`
	// Limit is how long each connection lives.
	Limit scenario.Duration `json:"-"`
	// Answer is the HTTP status of every answer, as 429.
	Answer int `json:"answer,omitempty" jsonschema:"minimum=400,maximum=599"`
	// RetryAfter is sent with it.
	RetryAfter scenario.Duration `json:"retryAfter,omitempty" with:"answer"`
	// Late is how long the head of each answer of the API server is held back.
	Late scenario.Duration `json:"late,omitempty"`
}

// UnmarshalText reads the short form.
func (f *Fault) UnmarshalText(text []byte) error {
	*f = Fault{}
	switch mode := string(text); mode {
	case "restore", "cut", "drop":
		f.Mode = mode
		return nil
	}
	return f.Limit.UnmarshalText(text)
}

// Check wants one thing at a time.
func (f Fault) Check(c *scenario.Checker, at string) {
	if f.Mode == "" && f.Limit == 0 && (f.Answer == 0) == (f.Late == 0) {
		c.Bad(at, "must have either answer or late")
	}
}

// JSONSchemaExtend adds the short form.
func (Fault) JSONSchemaExtend(s *jsonschema.Schema) {
	const words = "restore, cut, drop, or a positive duration, such as 500ms"
	scenario.OrText(s, words, "^(restore|cut|drop|"+scenario.DurationPattern+")$")
}
