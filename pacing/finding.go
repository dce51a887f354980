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
// whatever its size: so large was our part. (Or larger, where a cut kept us from
// asking for more; or if the bucket was full in between and earned nothing. What our
// replica dropped then counts as taken, so that it is hardly so.) A minute that is
// full says the same of itself, at every throttle.
type finding struct {
	known   bool
	over    time.Duration // the time between the two
	offered float64       // the share, on average
	part    float64       // of the quota, that was ours
	weight  float64       // how far a cut goes there
	burst   time.Duration // known or not: what was seen to be admitted at once
}

// find notes that the limiter is empty now, and returns what that says.
func (l *Ledger) find(now time.Duration) (f finding) {
	was := l.emptied
	l.emptied = emptied{at: now, used: l.used()}
	f.over = now - was.at
	f.known = was.at > 0 && f.over > 0 && f.over < findingMost && !l.unpaced()
	if l.unpaced() {
		f.burst = minute // what was in flight at once is not known in time
	}
	for d := range l.quota {
		q := &l.quota[d]
		f.burst = max(f.burst, q.burst)
		l.emptied.took[d] = q.took
		if f.known && q.cost > 0 {
			f.part = max(f.part, float64(q.took-was.took[d])/float64(f.over))
		}
	}
	if f.known {
		f.offered = float64(was.offered) / float64(f.over)
		// What a cut kept us from asking for counts as given, or the next would follow
		// from it. (While probes are refused nothing is; then a cut is smaller for it.)
		f.part += max(l.share.met-f.offered, 0)
		short := max(float64(brief), l.quota[requests].cost) // or a start more is most of it
		f.weight = nearer * min(float64(f.over)/short, 1)
		if l.quota[requests].minutely() || l.quota[tokens].minutely() {
			f.part, f.weight = l.emptied.used, nearer
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
