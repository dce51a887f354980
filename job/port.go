package job

// The words below cross the boundary between the drain loop (worker/) and the
// adapters that do its I/O. They stand here because the two must not import
// each other.

import (
	"encoding/json"
	"errors"
	"time"
)

var (
	// ErrGone is an operation on a delivery that is no longer ours: deleted,
	// lapsed and received by somebody else, or past SQS's 12 hours.
	ErrGone = errors.New("the delivery is no longer ours")
	// ErrNoRoom is a message that with its attributes exceeds MaxBody, and for
	// which no payload prefix is configured.
	ErrNoRoom = errors.New("no room for the attributes beside the body")
	// ErrDenied is a queue that is missing or that we may not use: it stays so
	// until somebody mends it, and asking again at once is a hot loop.
	ErrDenied = errors.New("the queue is missing or access to it is denied")
)

// Delivery is one receipt of one SQS message.
type Delivery struct {
	MessageID   string
	Handle      string // receipt handle: what extends, releases and deletes
	Body        []byte
	Receives    int       // ApproximateReceiveCount, 1 at the first receipt
	Sent        time.Time // SentTimestamp: SQS's clock
	Group       string    // MessageGroupId: the tenant
	Traceparent string
	Trail       Trail // the `sluice` attribute; zero where absent
}

// Trail is the `sluice` message attribute: what renewal and burial must not
// forget. Fields that are not known are left out.
type Trail struct {
	ID        string    `json:"id,omitempty"`
	Run       string    `json:"run,omitempty"`
	Submitted time.Time `json:"submitted,omitzero"` // the time of the job's first message
	Source    string    `json:"source,omitempty"`   // URL of the queue that it came from
	Attempts  int       `json:"attempts,omitempty"`
	Reason    Reason    `json:"reason,omitempty"` // set by a burial only
	Code      string    `json:"code,omitempty"`
	Detail    string    `json:"detail,omitempty"`
	BuriedAt  time.Time `json:"buried_at,omitzero"`
}

// Message is what is sent to a queue: a renewal, a burial or a copy of a result.
type Message struct {
	Body        []byte
	Delay       time.Duration // whole seconds, 0 to 15 min
	Group       string
	Traceparent string
	Trail       Trail // sent as the `sluice` attribute unless zero
}

// Visibility asks that the delivery with this handle stay invisible for For,
// counted from the call. Zero makes it visible at once.
type Visibility struct {
	Handle string
	For    time.Duration
}

// Size is what can be told about a request before it is sent.
type Size struct {
	Text      int64 // bytes of text that the model reads
	Images    int64 // counted, whatever their bytes
	Documents int64
	Videos    int64
	// MaxTokens is the request's own bound on the output, 0 where it has none.
	MaxTokens int64
	// NoOutput marks a request without output tokens (an embedding, an image).
	NoOutput bool
}

// Answer is a successful invocation.
type Answer struct {
	Output    json.RawMessage
	Usage     Usage // QuotaTokens is left zero: the ledger knows the burndown
	Metered   bool  // whether the response told its usage
	RequestID string
}

// Failure is an invocation, or another call on a job's behalf, that did not
// succeed, classified once by the adapter that knows the service.
type Failure struct {
	Reason    Reason
	Code      string // AWS's error type, or our word where there is none ("timeout", "network")
	Message   string // can quote the request: results only, never logs
	RequestID string
	// Detail is what is wrong with a body, quoting no value of it: for logs and the
	// dead letter.
	Detail string
	// Cause tells throttles apart: "requests", "tokens", "day" or "".
	Cause string
	// Timeout says that the model, not the network, took too long.
	Timeout bool
	// RetryAfter is the service's own wish, 0 where it has none.
	RetryAfter time.Duration
}

// Error implements error without the message, which can quote a prompt.
func (f *Failure) Error() string {
	if f.Code == "" {
		return string(f.Reason)
	}
	return string(f.Reason) + ": " + f.Code
}

// Claim is what a delivery holds against the result that may stand under its
// identity already.
type Claim struct {
	Identity
	Digest    string // Digest of the job, or DigestBody of a malformed one
	Submitted time.Time
}

// Verdict is what a result under a claim's key means for the claim.
type Verdict int

const (
	// Open: nothing there, or a failure that this claim may replace. The job is
	// to be done (on Look), or our result has been stored (on Save).
	Open Verdict = iota
	// Answered: a result that stands for this claim too. Nothing is to be done.
	Answered
	// Contested: a success of another digest stands there and stays.
	Contested
)
