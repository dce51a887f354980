package pacing

import "time"

// Outcome is how a granted request ended, as far as pacing needs to know.
type Outcome uint8

// The outcomes.
const (
	Answered     Outcome = iota // 200
	Rejected                    // the request is at fault; the route works
	Refused                     // 429: the quota of the minute
	Exhausted                   // 429: the quota of the day
	Unavailable                 // theirs: capacity, 5xx, network, time-out
	Unauthorized                // credentials, access, account
	Cancelled                   // not sent, or ended by us
)

const (
	// breakAfter unavailable answers in a row close the gate. Fewer, and two
	// slow jobs stop a healthy model; more, and each outage costs that many jobs
	// an attempt's wait.
	breakAfter = 5
	// fromJobs is how many different jobs a row of failures must come from before
	// it tells about the route rather than about one poisonous job.
	fromJobs = 3
)

// Route is one place that can answer for a model: a ledger that says when the
// quota allows the next start, an estimator of charges, and a gate that says
// whether to try at all. Like the ledger it has no lock: its caller serialises.
type Route struct {
	Ledger    *Ledger // shared by all routes that name the quota
	Estimator *Estimator
	Gate      Gate

	health    health
	row       row
	successes uint64
	inFlight  int
}

// Ticket is the permission to send one request on one route. It is ended once.
type Ticket struct {
	Charge Charge
	Start  time.Time
	// Alone says that nothing else was in flight on the route at the start: a
	// throttle of such a request is about its size.
	Alone bool

	grant Grant
	probe bool
}

// When returns the earliest start of a request of this charge. Asking means
// that there is backlog.
func (r *Route) When(c Charge, now time.Time) time.Time {
	at := r.Gate.When(now)
	if at.After(now) {
		return at
	}
	return later(r.Ledger.When(c, now), at)
}

// Start takes the charge.
func (r *Route) Start(c Charge, now time.Time) Ticket {
	r.inFlight++
	return Ticket{
		Charge: c, Start: now, Alone: r.inFlight == 1,
		grant: r.Ledger.Start(c, now), probe: r.Gate.pass(),
	}
}

// End settles or cancels the ticket's grant, and opens or closes the gate. settled
// and input are as for Settle, job is a hash of the job's identity. It says whether
// the gate changed its cause.
func (r *Route) End(t Ticket, o Outcome, settled, input int64, job uint64, now time.Time) (news bool) {
	r.inFlight--
	switch o {
	case Answered:
		r.Ledger.Settle(t.grant, settled, input, now)
	case Refused:
		r.Ledger.Refuse(t.grant, now)
	default: // a day that is gone says nothing about the minute
		r.Ledger.Cancel(t.grant, now)
	}
	probe := t.probe && r.Gate.probing && !t.Start.Before(r.Gate.next) // else the gate was opened meanwhile
	if o == Cancelled {
		if probe {
			r.Gate.abandon()
		}
		return false
	}
	r.health.count(o != Unavailable, now)
	from := now
	if probe {
		from = t.Start
	}

	switch o {
	case Unavailable:
		r.row.add(o, job)
		if probe || r.row.count >= breakAfter && r.row.jobs() >= fromJobs {
			return r.Gate.shut(Broken, probe, from)
		}
	case Unauthorized:
		r.row.add(o, job)
		if probe || r.row.jobs() >= fromJobs {
			return r.Gate.shut(Stopped, probe, from)
		}
	case Exhausted:
		return r.Gate.shut(Parked, probe, from)
	case Answered:
		r.row = row{}
		r.successes++
		// A straggler's success says nothing of a day that is gone: it was admitted
		// before.
		if probe || r.Gate.cause == Broken {
			return r.Gate.open()
		}
	default: // neither the one nor the other: let another probe go
		r.row = row{}
		if probe {
			r.Gate.abandon()
		}
	}
	return false
}

// Successes counts the requests answered on this route.
func (r *Route) Successes() uint64 { return r.successes }

// InFlight returns the requests started and not yet ended.
func (r *Route) InFlight() int { return r.inFlight }

// Healthy says whether the gate is open and nine in ten of the route's answers
// of the last minute were good, other than own failures of the asking job. With
// no other answer it is not known to be healthy, and the job gets the benefit of
// the doubt.
func (r *Route) Healthy(own int, now time.Time) bool {
	if r.Gate.cause != Open {
		return false
	}
	good, bad := r.health.sum(now)
	others := good + max(0, bad-own)
	return others > 0 && 10*good >= 9*others
}

// row is a row of failures of one kind, unbroken by any other answer.
type row struct {
	kind  Outcome
	count int
	from  [fromJobs]uint64 // different jobs, as many as matter
}

func (s *row) add(o Outcome, job uint64) {
	if s.kind != o {
		*s = row{kind: o}
	}
	s.count++
	for i, j := range s.from {
		if j == job {
			return
		}
		if j == 0 {
			s.from[i] = job
			return
		}
	}
}

func (s *row) jobs() (n int) {
	for _, j := range s.from {
		if j != 0 {
			n++
		}
	}
	return n
}

// health counts a route's answers of the last minute.
type health struct {
	slots [healthSlots]struct {
		at        int64 // number of the slot's stretch of time since the epoch
		good, bad int
	}
}

const (
	healthSlots = 12
	healthSlot  = time.Minute / healthSlots
)

func (h *health) count(good bool, now time.Time) {
	n := now.UnixNano() / int64(healthSlot)
	s := &h.slots[n%healthSlots]
	if s.at != n {
		s.at, s.good, s.bad = n, 0, 0
	}
	if good {
		s.good++
	} else {
		s.bad++
	}
}

func (h *health) sum(now time.Time) (good, bad int) {
	n := now.UnixNano() / int64(healthSlot)
	for i := range h.slots {
		if s := &h.slots[i]; n-s.at < healthSlots {
			good, bad = good+s.good, bad+s.bad
		}
	}
	return good, bad
}
