package pacing

import "time"

// longStall is how long a rolling minute must have admitted nothing to be taken
// for overfull. Too small: what others took of it is taken for a cut. Too large: a
// quota that was cut by less than a half is found throttle by throttle.
const longStall = 12 * time.Second

// allTaken is for how many times what a bucket takes to earn a start at our share it
// must have earned none for others to have taken all. Too small: a bad moment beside a
// steady neighbour counts as that. Too large: a neighbour of some seconds does not.
const allTaken = 3

// keeper is the kind of minute that may keep the pace, or neither: the clock's,
// where one dimension counts by it.
func (l *Ledger) keeper() minuteKind {
	kind := neither
	for d := range l.quota {
		if q := &l.quota[d]; q.cost > 0 && q.minutely() && (kind == neither || q.window.kind == calendar) {
			kind = q.window.kind
		}
	}
	return kind
}

// reopened takes the accept that ends a row of refused probes.
func (l *Ledger) reopened(w *witness) {
	stall := l.recovery.since - l.recovery.began
	// What a bucket takes to earn this start at our share.
	earning := time.Duration(float64(max(w.charge[requests], w.charge[tokens])) / l.current)
	// No minute is overfull for longer than a minute; and a bucket, even one that
	// refills at half of the rate, would have earned the start.
	long := stall > longStall && stall < minute && stall > 2*earning && l.keeper() == rolling
	// A minute that admitted nothing for so long held more than the quota, as when
	// that is cut. At the last refusal it had no room for one more, what is in it now
	// fits: the quota is between.
	now := l.used()
	part := (l.emptied.used + now) / 2
	switch {
	case long && part < l.current && now > usedLeast*l.current:
		l.measured(part)
		l.reopening = now
	case l.reopening == 0:
		// What was earned meanwhile, others took. (Not of a cut quota.)
		since := time.Duration(float64(l.now-w.at) * l.current)
		for d := range l.quota {
			l.quota[d].empty(l.current, since)
		}
		// No minute and no concurrency was full: what kept this start away were others,
		// who took all.
		if l.recovery.cut && stall > allTaken*earning && l.keeper() == neither && !l.unpaced() {
			l.share.ease(stall)
		}
	}
}

// doubtReopening hears a throttle whose charge is not taken back yet. It forgets the
// reopening where the minute holds less than it was seen to (there are others; what
// left it in two lags may still be in it there), where it holds a whole quota (nothing
// is cut any more), and where another kind of minute keeps the pace.
func (l *Ledger) doubtReopening() {
	used := l.used()
	if used+float64(2*lag)/float64(minute) < l.reopening || used >= l.share.top || l.keeper() != rolling {
		l.reopening = 0
	}
}

// measured believes that the quota is that part of the configured one, all ours. The
// minute's log is right then as it is, and nothing keeps the pace beside it: what
// leaves it can start at once.
func (l *Ledger) measured(part float64) {
	l.share.become(l.now, part)
	l.current = l.share.level
	for d := range l.quota {
		q := &l.quota[d]
		q.debt, q.least = 0, 0
		q.window.rebase(l.current)
	}
}

// gap reports whether a reopened minute admits nothing for longer than the pace
// explains. Its gaps come back a minute later, and the share does not grow in them.
func (l *Ledger) gap(now time.Duration) bool {
	if l.reopening == 0 || l.witnesses.next == 0 {
		return false
	}
	last := l.witnesses.at(l.witnesses.next - 1)
	return float64(now-last.at)*l.current >= 2*float64(max(last.charge[requests], last.charge[tokens]))
}
