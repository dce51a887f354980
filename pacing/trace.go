package pacing

import "time"

// Event is one line of a trace: what happened on a ledger, and what that
// believed and would permit right after it. It holds times and sizes, nothing
// of what a request says. docs/pacing.md tells how a trace is recorded, and
// bench/pacing replays it.
type Event struct {
	At     time.Time `json:"at"`
	Ledger string    `json:"ledger"`       // Region/quota
	What   string    `json:"what"`         // begin, start, or the Outcome of an end
	ID     uint64    `json:"id,omitempty"` // of the grant, in its ledger since its begin

	// Of a begin: the limits that are configured.
	RPM float64 `json:"rpm,omitempty"`
	TPM float64 `json:"tpm,omitempty"`
	// Of a start: when the job was asked for, and the charge, in tokens.
	Submitted time.Time `json:"submitted,omitzero"`
	Reserve   int64     `json:"reserve,omitempty"`
	Expect    int64     `json:"expect,omitempty"`
	Input     int64     `json:"input,omitempty"`
	Doubt     int64     `json:"doubt,omitempty"`
	// Of an answered request: what it was charged in the end, in tokens.
	Settled int64 `json:"settled,omitempty"`

	Share  float64 `json:"share"`
	Bucket float64 `json:"bucket"` // what the limiter is believed to hold, in seconds of the quota
	Minute bool    `json:"minute"` // and a minute, rolling or by the clock, beside that
	// Next is how long the next request of the same charge has to wait, in
	// seconds: what When would answer.
	Next float64 `json:"next"`
}

// The events that are no outcome.
const (
	Begun   = "begin"
	Started = "start"
)

// Event describes the ledger as it is now. It asks a fork, so that it is not
// taken for backlog.
func (l *Ledger) Event(what string, c Charge, now time.Time) Event {
	fork := *l
	v := fork.View(now)
	return Event{
		At: now, What: what, Share: v.Share, Bucket: v.Bucket.Seconds(), Minute: v.Minute,
		Next: fork.When(c, now).Sub(now).Seconds(),
	}
}

// ID tells the ticket's grant from the others of its ledger.
func (t Ticket) ID() uint64 { return t.grant.id }

func (o Outcome) String() string {
	return [...]string{"answered", "rejected", "refused", "exhausted", "unavailable", "unauthorized", "cancelled"}[o]
}
