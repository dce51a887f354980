package bedrocksim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Quota is what AWS lets one model do in one Region. A zero field is no limit.
type Quota struct {
	RPM float64 // requests per minute
	TPM float64 // tokens per minute
	TPD int64   // tokens per day, UTC; the moment of AWS's reset is UNCONFIRMED
}

// Shape is how a limiter remembers a minute. AWS documents what a request is
// charged and not this, so every plausible form is here. The zero Shape is
// [Rolling]; a Shape of several windows admits what all of them admit.
type Shape []window

type window struct {
	calendar bool
	hold     time.Duration // bucket: the time in which it fills; else 0
}

var (
	// Rolling never admits more than the quota in any 60 s.
	Rolling = Shape{{}}
	// Calendar never admits more than the quota between :00 and :00.
	Calendar = Shape{{calendar: true}}
)

// Bucket holds so much time's worth of the quota, starts full, and refills at
// the quota's rate.
func Bucket(hold time.Duration) Shape { return Shape{{hold: hold}} }

// All is the composition of shapes: each of them must admit.
func All(shapes ...Shape) Shape { return slices.Concat(shapes...) }

// MarshalText writes the form that UnmarshalText reads.
func (s Shape) MarshalText() ([]byte, error) {
	if len(s) == 0 {
		s = Rolling
	}
	var parts []string
	for _, w := range s {
		switch {
		case w.calendar:
			parts = append(parts, "calendar")
		case w.hold > 0:
			parts = append(parts, "bucket:"+w.hold.String())
		default:
			parts = append(parts, "rolling")
		}
	}
	return []byte(strings.Join(parts, "+")), nil
}

// UnmarshalText reads "rolling", "calendar", "bucket:10s", or several of them
// joined by "+".
func (s *Shape) UnmarshalText(text []byte) error {
	var shape Shape
	for part := range strings.SplitSeq(string(text), "+") {
		kind, hold, sized := strings.Cut(part, ":")
		switch {
		case kind == "rolling" && !sized:
			shape = append(shape, Rolling...)
		case kind == "calendar" && !sized:
			shape = append(shape, Calendar...)
		case kind == "bucket" && sized:
			d, err := time.ParseDuration(hold)
			if err != nil {
				return fmt.Errorf("shape %q: %w", part, err)
			}
			if d <= 0 {
				return fmt.Errorf("shape %q: a bucket holds more than 0 s", part)
			}
			shape = append(shape, Bucket(d)...)
		default:
			return fmt.Errorf("shape %q: want rolling, calendar or bucket:DURATION", part)
		}
	}
	*s = shape
	return nil
}

// Cause says which limit refused a request; Admitted is none.
type Cause string

// The causes of a refusal.
const (
	Admitted Cause = ""
	Requests Cause = "requests"
	Tokens   Cause = "tokens"
	Day      Cause = "day"
)

// Charge is what one admitted request has taken, until it is settled.
type Charge struct {
	at     time.Time
	tokens float64
}

// Neighbour is another tenant of the same quota: small requests in a steady
// stream, through the same limiter. One that is refused waits in line and is
// tried often, and before anybody else's; so the neighbour gets its fraction,
// and no more than that, from the time on when what was taken before it came is
// forgotten.
type Neighbour struct {
	Fraction float64       // of the requests and of the tokens per minute
	On, Off  time.Duration // bursts: On with the stream, Off without; On zero: always
}

// Limiter is one quota under one shape: the ledger that AWS keeps. It has no
// clock, lock or goroutine; the caller serialises, and its times never go back.
type Limiter struct {
	quota   Quota
	minutes []minuteMeters
	day     calendarMeter

	neighbour Neighbour
	since     time.Time     // when the neighbour came: the phase of its bursts
	next      time.Time     // its next request
	every     time.Duration // between its requests; 0: no neighbour
	size      float64       // tokens of each
	waiting   int           // its refused requests
	retry     time.Time     // when they are tried again
	taken     Taken
}

// Taken is what the neighbour was granted.
type Taken struct {
	Requests int64
	Tokens   float64
}

// minuteMeters is one window of the shape in both dimensions.
type minuteMeters struct{ requests, tokens meter }

// NewLimiter starts with nothing taken: buckets are full, minutes empty.
func NewLimiter(q Quota, s Shape, now time.Time) *Limiter {
	if len(s) == 0 {
		s = Rolling
	}
	l := &Limiter{day: calendarMeter{span: 24 * time.Hour}}
	for _, w := range s {
		l.minutes = append(l.minutes, minuteMeters{w.meter(1), w.meter(0)})
	}
	l.SetQuota(now, q)
	return l
}

// Admit starts a request that reserves so many tokens, or says what refused
// it. A refusal takes nothing.
func (l *Limiter) Admit(now time.Time, reservation int64) (Charge, Cause) {
	l.advance(now)
	return l.admit(now, float64(reservation))
}

func (l *Limiter) admit(now time.Time, tokens float64) (Charge, Cause) {
	if !l.day.admits(now, tokens) {
		return Charge{}, Day
	}
	for _, m := range l.minutes {
		if !m.requests.admits(now, 1) {
			return Charge{}, Requests
		}
		if !m.tokens.admits(now, tokens) {
			return Charge{}, Tokens
		}
	}
	l.day.take(now, tokens)
	for _, m := range l.minutes {
		m.requests.take(now, 1)
		m.tokens.take(now, tokens)
	}
	return Charge{at: now, tokens: tokens}, Admitted
}

// Settle replaces the charge by what the request really cost, which may be
// more than it reserved. The charge stands at the moment of its start: what has
// left the minute by then is not charged again. Call it once per charge. (AWS
// also adjusts a charge while its request runs, at intervals that it does not
// tell; here that happens at the end alone.)
func (l *Limiter) Settle(now time.Time, c Charge, settled int64) {
	l.advance(now)
	back := c.tokens - float64(settled)
	l.day.give(now, c.at, back)
	for _, m := range l.minutes {
		m.tokens.give(now, c.at, back)
	}
}

// SetQuota changes the quota in mid-run. A bucket keeps its level as far as the
// new capacity holds it.
func (l *Limiter) SetQuota(now time.Time, q Quota) {
	l.advance(now)
	l.quota = q
	l.day.limit = float64(q.TPD)
	for _, m := range l.minutes {
		m.requests.setLimit(now, q.RPM)
		m.tokens.setLimit(now, q.TPM)
	}
	l.stream(now)
}

// SetNeighbour replaces the neighbour; one without a fraction is none.
func (l *Limiter) SetNeighbour(now time.Time, n Neighbour) {
	l.advance(now)
	l.neighbour, l.since = n, now
	l.stream(now)
}

// Neighbour returns what the neighbour was granted so far.
func (l *Limiter) Neighbour(now time.Time) Taken {
	l.advance(now)
	return l.taken
}

// neighbourTick is the time between a neighbour's requests where tokens alone
// are limited. Shorter costs time in simulations, longer makes clumps that
// would look like bursts to a bucket of one second.
const neighbourTick = 100 * time.Millisecond

// stream begins the neighbour's requests anew.
func (l *Limiter) stream(now time.Time) {
	if l.every, l.size = l.neighbour.Stream(l.quota); l.every == 0 {
		l.waiting = 0
	}
	l.next = now.Add(l.every)
}

// Stream tells spacing and size, in tokens, of the neighbour's requests to a
// quota. Zero spacing is none.
func (n Neighbour) Stream(q Quota) (every time.Duration, size float64) {
	switch f := n.Fraction; {
	case f <= 0 || q.RPM == 0 && q.TPM == 0:
		return 0, 0
	case q.RPM > 0:
		every = time.Duration(float64(time.Minute) / (f * q.RPM))
	default:
		every = neighbourTick
	}
	return every, n.Fraction * q.TPM * every.Minutes()
}

// neighbourPatience is how long the neighbour's requests wait in a line: the
// longest that a minute makes anybody wait. Shorter, and whoever takes a whole
// minute at once starves it; longer, and it makes up with a burst for what it
// could not have had.
const neighbourPatience = time.Minute

// neighbourRetry is the time between two tries of the neighbour's line: that of
// a client with many requests, each of which backs off for itself.
const neighbourRetry = 50 * time.Millisecond

// neighbourMemory is how far back the neighbour's requests are caught up with
// after a time in which nobody asked: the minute is all that a window
// remembers, so that an idle hour costs nothing. (It spares the neighbour some
// of the day's quota.)
const neighbourMemory = 2 * time.Minute

// advance lets the neighbour do what it did since the last call.
func (l *Limiter) advance(now time.Time) {
	if l.every == 0 {
		return
	}
	if idle := now.Sub(l.next) - neighbourMemory; idle > 0 {
		l.next = l.next.Add(idle.Truncate(l.every))
		l.retry = l.next
	}
	for {
		t := l.next
		if l.waiting > 0 && l.retry.Before(t) {
			t = l.retry
		}
		if t.After(now) {
			break
		}
		if t.Equal(l.next) {
			l.arrive()
		}
		l.serve(t)
		l.retry = t.Add(neighbourRetry)
	}
	l.serve(now)
}

// arrive puts the neighbour's next request in line.
func (l *Limiter) arrive() {
	longest := 1 + int(neighbourPatience/l.every)
	l.waiting = min(l.waiting+1, longest)
	if n := l.neighbour; n.On > 0 && l.next.Sub(l.since)%(n.On+n.Off) >= n.On {
		l.waiting = 0
	}
	l.next = l.next.Add(l.every)
}

// serve admits what it can of the neighbour's line.
func (l *Limiter) serve(now time.Time) {
	for ; l.waiting > 0; l.waiting-- {
		if _, cause := l.admit(now, l.size); cause != Admitted {
			return
		}
		l.taken.Requests++
		l.taken.Tokens += l.size
	}
}
