package scenario

// Network is what lies between the runners and the API server. In a file it is
// "restore" (nothing), "cut" (connections are ended and refused), "drop" (they
// stay open, and nothing passes any more: no answer, no reset), a duration
// after which each connection is ended, as 500ms, or a mapping, for what a server
// in front of the API server may say in its place.
type Network struct {
	// Mode is restore, cut or drop; empty if one of the others is set.
	Mode string `json:"-"`
	// Limit is how long each connection lives.
	Limit Duration `json:"-"`
	// Answer is the HTTP status of every answer, as 429.
	Answer int `json:"answer,omitempty"`
	// RetryAfter is sent with it.
	RetryAfter Duration `json:"retryAfter,omitempty"`
	// Late is how long the head of each answer of the API server is held back.
	Late Duration `json:"late,omitempty"`
}

// Token is what happens to the token of the runners' service account.
type Token string

// The tokens.
const (
	TokenRotate Token = "rotate" // replaced by a new one
	TokenExpire Token = "expire" // its time is over
	TokenRevoke Token = "revoke" // its service account was made anew
)
