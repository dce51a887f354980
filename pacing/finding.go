package pacing

import "time"

const (
	// findingMost bounds the time that two throttles say something about. Too
	// small: slow routes are never measured. Too large: an idle time between them
	// counts as the others'.
	findingMost = 2 * minute
	// steady is how long a finding must reach back to say that others have gone.
	// Too small: luck is taken for that. Too large: a neighbour's bursts are one
	// long trouble.
	steady = 5 * time.Second
	// atOnce is the least that a believed minute must have been seen to admit
	// at once. Too small: a bucket of a few seconds, beside which a minute was
	// never refuted, is measured as one. Too large: a minute is measured as a
	// bucket.
	atOnce = 5 * time.Second
	// longStall is how long a rolling minute must have admitted nothing to be taken
	// for overfull. Too small: a neighbour's minute is (with four fifths taken, at
	// 8 s, twice the throttles). Too large: a quota that was cut by less than a half is
	// found throttle by throttle.
	longStall = 12 * time.Second
)

// minutely reports whether a minute is believed and so much was admitted at once
// that it may be what keeps the pace.
func (r *replica) minutely() bool { return r.window.kind < neither && r.burst > atOnce }

// emptied is when a throttle found the limiter empty.
type emptied struct {
	at      time.Duration
	took    [dimensions]time.Duration // by the replicas, until then
	used    float64                   // in the last minute
	offered time.Duration             // what the share was worth since
}

// finding is what two throttles say of the time between them. A bucket that was
// empty at both has given us what it earned meanwhile and others did not take,
// whatever its size: so large was our part. (Or larger, if the bucket was full
// in between and earned nothing. What our replica dropped then counts as taken,
// so that it is hardly so.) A minute that is full says the same of itself, at
// every throttle.
type finding struct {
	known   bool
	over    time.Duration // the time between the two
	offered float64       // the share, on average
	part    float64       // of the quota, that was ours
	small   bool          // known or not: no bucket much larger than the smallest was seen
}

// find notes that the limiter is empty now, and returns what that says.
func (l *Ledger) find(now time.Duration) (f finding) {
	was := l.emptied
	l.emptied = emptied{at: now, used: l.used()}
	f.over = now - was.at
	f.known = was.at > 0 && f.over > 0 && f.over < findingMost && !l.unpaced()
	f.small = true
	for d := range l.quota {
		q := &l.quota[d]
		f.small = f.small && q.burst < smallest*3/2
		l.emptied.took[d] = q.took
		if f.known && q.cost > 0 {
			f.part = max(f.part, float64(q.took-was.took[d])/float64(f.over))
		}
	}
	if f.known {
		f.offered = float64(was.offered) / float64(f.over)
		if l.quota[requests].minutely() || l.quota[tokens].minutely() {
			f.part = l.emptied.used
		}
	}
	return f
}

// used returns the part of the quota that was taken in the last minute, as far as
// that is known.
func (l *Ledger) used() (part float64) {
	unknown := max(l.born+minute-l.now, 0)
	for d := range l.quota {
		if q := &l.quota[d]; q.cost > 0 {
			part = max(part, float64(q.window.sum.charged-unknown)/float64(minute))
		}
	}
	return part
}

// turn returns when the clock's minute is over that is believed to be used up.
func (l *Ledger) turn() (at time.Duration) {
	for d := range l.quota {
		if q := &l.quota[d]; q.window.kind == calendar && q.minutely() {
			at = max(at, q.window.turns())
		}
	}
	return at
}

// keeper is the kind of minute that may keep the pace, or neither.
func (l *Ledger) keeper() minuteKind {
	for d := range l.quota {
		if q := &l.quota[d]; q.cost > 0 && q.minutely() {
			return q.window.kind
		}
	}
	return neither
}

// reopened takes the accept that ends a row of refused probes.
func (l *Ledger) reopened(w *witness) {
	stall := l.recovery.since - l.recovery.began
	long := stall > longStall && l.keeper() == rolling
	for d := range l.quota { // a bucket of half of the quota would have earned that
		long = long && stall > time.Duration(2*float64(w.charge[d])/l.current)
	}
	// A minute that admitted nothing for so long held more than the quota, as when
	// that is cut. What was in it at the last refusal was too much, what is in it now
	// is not.
	now := l.used()
	part := (l.emptied.used + now) / 2
	switch {
	case long && part < l.current && now > usedLeast*l.current:
		l.measured(part)
		l.reopening = now
	case l.reopening == 0:
		// What was earned meanwhile, others took.
		since := time.Duration(float64(l.now-w.at) * l.current)
		for d := range l.quota {
			l.quota[d].empty(l.current, since)
		}
	}
}

// others ends what a reopening said when a throttle tells of others: the minute
// holds less than it was seen to admit.
func (l *Ledger) others() {
	if l.used()+float64(2*lag)/float64(minute) < l.reopening || l.keeper() != rolling {
		l.reopening = 0
	}
}

// blocked reports whether a reopened minute has admitted nothing for a while: its
// starts come back in the gaps that the last ones left.
func (l *Ledger) blocked(now time.Duration) bool {
	if l.reopening == 0 || l.boundUntil <= l.now || l.witnesses.next == 0 {
		return false
	}
	last := l.witnesses.at(l.witnesses.next - 1)
	return float64(now-last.at)*l.current > 2*float64(max(last.charge[requests], last.charge[tokens]))
}

// measured believes that the quota is that part of itself, and nobody else's. The
// minute's log is right then as it is, and nothing keeps the pace beside it: what
// leaves it can start at once.
func (l *Ledger) measured(part float64) {
	l.share.measured(l.now, part)
	l.current = part
	for d := range l.quota {
		q := &l.quota[d]
		q.debt, q.least = 0, 0
		q.window.rebase(part)
	}
}
