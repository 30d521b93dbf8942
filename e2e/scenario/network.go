package scenario

// Network is what lies between the runners and the API server. As a text it is
// "restore" (nothing), "cut" (connections are ended and refused), "drop" (they
// stay open, and nothing passes any more: no answer, no reset), or a duration
// after which each connection is ended, as 500ms. As a mapping it is what a server
// in front of the API server may do.
type Network struct {
	// Mode is restore, cut or drop; empty if one of the others is set.
	Mode string `json:"-"`
	// Limit is how long each connection lives.
	Limit Duration `json:"-"`
	// Answer is the HTTP status of every answer, as 429.
	Answer int `json:"answer,omitempty" jsonschema:"minimum=400,maximum=599"`
	// RetryAfter is sent with it.
	RetryAfter Duration `json:"retryAfter,omitempty" with:"answer"`
	// Late is how long the head of each answer of the API server is held back.
	Late Duration `json:"late,omitempty"`
}

// networkText is what the short form is.
const networkText = "restore, cut, drop, or a positive duration, such as 500ms"

// UnmarshalText reads the short form.
func (n *Network) UnmarshalText(text []byte) error {
	*n = Network{}
	switch mode := string(text); mode {
	case "restore", "cut", "drop":
		n.Mode = mode
		return nil
	}
	return n.Limit.UnmarshalText(text)
}

// Check wants one thing at a time.
func (n Network) Check(c *Checker, at string) {
	if n.Mode == "" && n.Limit == 0 && (n.Answer == 0) == (n.Late == 0) {
		c.Bad(at, "must have either answer or late")
	}
}

// Token is what happens to the token of the runners' service account.
type Token string

// The tokens.
const (
	TokenRotate Token = "rotate" // replaced by a new one
	TokenExpire Token = "expire" // its time is over
	TokenRevoke Token = "revoke" // its service account was made anew
)

// Words are those that files can have.
func (Token) Words() []string { return Words(TokenRotate, TokenExpire, TokenRevoke) }
