package worker

import (
	"time"

	"github.com/sluicehq/sluice/pacing"
)

// tracer passes on what happens on the ledgers; nil: nobody listens. Its
// methods are called under dispatcher.mu.
type tracer func(pacing.Event)

func (f tracer) begin(q *quota, limits pacing.Limits, now time.Time) {
	if f == nil {
		return
	}
	e := q.event(pacing.Begun, pacing.Charge{}, now)
	e.RPM, e.TPM = limits.RPM, limits.TPM
	f(e)
}

func (f tracer) start(t *task, now time.Time) {
	if f == nil {
		return
	}
	c := t.grant.ticket.Charge
	e := t.grant.route.quota.event(pacing.Started, c, now)
	e.ID, e.Submitted = t.grant.ticket.ID(), t.submitted
	e.Reserve, e.Expect, e.Input, e.Doubt = c.Reserve, c.Expect, c.Input, c.Doubt
	f(e)
}

func (f tracer) end(g *grant, o pacing.Outcome, settled int64, now time.Time) {
	if f == nil {
		return
	}
	e := g.route.quota.event(o.String(), g.ticket.Charge, now)
	e.ID, e.Settled = g.ticket.ID(), settled
	f(e)
}

func (q *quota) event(what string, c pacing.Charge, now time.Time) pacing.Event {
	e := q.ledger.Event(what, c, now)
	e.Ledger = q.region + "/" + q.name
	return e
}
