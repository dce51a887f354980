package pacing

import "time"

const (
	// patienceLeast, and patienceTrips round trips of a throttle, are how long a
	// start must go without one to count as accepted: an answer takes seconds,
	// a throttle does not. Too small: a throttle still under way is taken for
	// an accept, and the shape for more permissive than it is. Too large: a
	// probe holds everything up for as long.
	patienceLeast = 250 * time.Millisecond
	patienceTrips = 4
	// patienceMost bounds what one slow throttle can do to it.
	patienceMost = 5 * time.Second

	// An accept proves its debt less this doubt, which covers the network. Too
	// small: a bucket is taken for larger than it is, and throttles. Too large:
	// it is not used up.
	doubt = 50 * time.Millisecond
	// doubtMinute is how far above a minute an accept refutes it. Too
	// small: estimates that are off refute a true one, and it throttles from
	// then on. Too large: a bucket of less is held to the minute for good.
	doubtMinute = 500 * time.Millisecond
	// doubtRaise is how much further above for each whole quota that was found
	// beyond the configured one: how high it is, nobody said. Too small: the
	// clock's minute of a raised quota is refuted, and the raise lost at each full
	// one. Too large: that of a raised bucket is not.
	doubtRaise = 2 * time.Second

	// witnessMost bounds the starts whose acceptance is still open. Too small:
	// at more than witnessMost/patience starts a second (1,000) nothing is
	// learned. Too large: memory, 80 bytes each.
	witnessMost = 256

	// exploreFirst and exploreSecond are when the first exploration may begin
	// and how long after its end the second. The second tells a quota that is
	// higher than configured from a bucket that was full.
	exploreFirst  = 5 * time.Second
	exploreSecond = 3 * time.Second
	// explorePace is the rate of an exploration, in shares. Too small: it takes
	// long to fill what it explores. Too large: flights of throttles; at 2, a
	// doubled quota is filled just before it is believed.
	explorePace = 1.98
	// exploreQuiet is how long no throttle must have been seen, and for how long the
	// share must be whole, before any exploration but the first two. Too small: a neighbour is explored, or what he left in a
	// rolling minute. Too large: nothing is explored, even where throttles are rare (a
	// neighbour of ten seconds in each minute ended it for good at a minute).
	exploreQuiet = 20 * time.Second
	// explorePrice is the number of successes that each throttle of the last
	// exploration costs the next, but for the very first. Too small: throttles (3 per
	// 1,000 at 300). Too large: a raised quota is found late (after some 400 s at 300
	// RPM with 1,500, not within 600 s with 4,000).
	explorePrice = 1_200
	// raiseLeast is the least raise of the quota that is believed in, raiseMost
	// the most above what was configured. Too small a most: a raised quota is
	// not used until somebody configures it. Too large: a mistyped one is
	// overrun by as much.
	raiseLeast = 1.1
	raiseMost  = 4
)

// witnesses is a ring of the latest starts. Some wait to testify: what was
// accepted refutes each shape that would have throttled it.
type witnesses struct {
	ring        [witnessMost]witness
	first, next int // first that has not testified, next to be written
	patience    time.Duration
}

// witness is one start, and the least that it must have met at the limiter.
type witness struct {
	grant    uint64
	at       time.Duration
	charge   [dimensions]time.Duration
	beyond   bool                      // above what is known to be safe
	gone     bool                      // refused, or ended otherwise: it cannot testify
	answered bool                      // it was accepted
	debt     [dimensions]time.Duration // of a bucket, before the charge
	charged  [dimensions]time.Duration // in the minute, before the charge
	kind     [dimensions]minuteKind    // which minute that is
}

func newWitnesses() witnesses { return witnesses{patience: patienceLeast} }

func (ws *witnesses) at(i int) *witness { return &ws.ring[i%witnessMost] }

// since returns what was started after the time.
func (ws *witnesses) since(t time.Duration) (sum [dimensions]time.Duration) {
	for i := ws.next - 1; i >= 0 && i > ws.next-witnessMost && ws.at(i).at > t; i-- {
		for d := range sum {
			sum[d] += ws.at(i).charge[d]
		}
	}
	return sum
}

// start records a start. What was sent within the jitter can arrive after it.
func (ws *witnesses) start(l *Ledger, g Grant, reserve [dimensions]time.Duration) {
	w := witness{grant: g.id, at: g.at, charge: reserve, beyond: g.beyond}
	if g.beyond {
		air := ws.since(g.at - jitter)
		air[tokens] += l.quota[tokens].time(Apart(l.quota[tokens].window.sum.doubt, g.charge.Doubt))
		for d := range w.debt {
			q := &l.quota[d]
			w.debt[d] = q.least - air[d]
			w.kind[d] = q.window.kind
			w.charged[d] = q.window.surely(g.at) - max(l.born+minute-g.at, 0) - air[d]
		}
	}
	if ws.next-ws.first == witnessMost {
		ws.first++
	}
	*ws.at(ws.next) = w
	ws.next++
}

// lower takes off what those who started after the time did not meet: a refund
// that the limiter may have made before they arrived, or a charge that it
// refused.
func (ws *witnesses) lower(t time.Duration, d int, amount time.Duration) {
	for i := ws.next - 1; i >= ws.first && ws.at(i).at > t; i-- {
		ws.at(i).debt[d] -= amount
		ws.at(i).charged[d] -= amount
	}
}

// find returns the grant's witness, or nil where that has testified.
func (ws *witnesses) find(grant uint64) *witness {
	for i := ws.next - 1; i >= ws.first; i-- {
		if w := ws.at(i); w.grant == grant {
			return w
		}
	}
	return nil
}

// drop unmakes a witness. It returns false where that has testified.
func (ws *witnesses) drop(grant uint64) bool {
	w := ws.find(grant)
	if w != nil {
		w.gone = true
	}
	return w != nil
}

// answered makes the grant's witness one that was accepted.
func (ws *witnesses) answered(grant uint64) {
	if w := ws.find(grant); w != nil {
		w.answered = true
	}
}

// hear lets those testify who were answered, or have not been throttled within
// patience. What proves a shape waits for that in any case: an earlier start can still
// turn out to have taken nothing.
func (l *Ledger) hear(now time.Duration) {
	ws := &l.witnesses
	for ws.first < ws.next {
		w := ws.at(ws.first)
		if now-w.at <= ws.patience && (!w.answered || w.beyond) {
			return
		}
		ws.first++
		if w.gone {
			continue
		}
		if l.recovery.accepted(w.at) {
			l.reopened(w)
		}
		if w.beyond {
			l.learn(w)
		}
	}
}

// learn takes what an accepted start proves about the shape.
func (l *Ledger) learn(w *witness) {
	for d := range l.quota {
		q := &l.quota[d]
		if q.cost == 0 {
			continue
		}
		limit := l.share.top*float64(minute) + (l.share.top-1)*float64(doubtRaise)
		if w.kind[d] < neither && w.charged[d]+w.charge[d] > time.Duration(limit)+doubtMinute {
			if q.window.kind == w.kind[d] {
				q.window.kind++
				l.explore.tried[theMinute] = false // the next kind has hardly been
			}
			if l.explore.on && l.explore.beyond == theMinute && !l.minuteStands() {
				l.explore.end(l.now, l.explore.owed)
			}
		}
		// One that met a full bucket proves nothing: it may be larger than that.
		if w.debt[d] > doubt {
			proved := float64(w.debt[d]+w.charge[d]-doubt) / l.share.top
			if q.window.kind == neither && proved > float64(minute)*raiseLeast && w.at > l.explore.from+minute {
				l.raise()
				return
			}
			q.burst = max(q.burst, min(time.Duration(proved), minute))
		}
	}
}

// raise takes a quota that is higher than was believed: no limit per minute
// lets more than a minute's worth pass beyond its rate, but one by the clock,
// which lets two. The last minute was all explored, so that what it took is the
// rate that passes.
func (l *Ledger) raise() {
	top := min(max(l.used(), l.share.top*raiseLeast), l.share.top*explorePace, raiseMost)
	if l.firm || top <= l.share.top {
		l.explore.end(l.now, explorePrice)
		return
	}
	l.share.top, l.share.level = top, 0
	l.current = top
	l.forget()
	for d := range l.quota {
		q := &l.quota[d]
		q.least = 0
		q.debt = q.capacity(l.current)
		q.window.rebase(l.current)
	}
}

// forget goes back to knowing nothing of the shape.
func (l *Ledger) forget() {
	for d := range l.quota {
		l.quota[d].burst, l.quota[d].even = smallest, 0
		l.quota[d].window.kind = rolling
	}
	l.witnesses.first = l.witnesses.next
	l.reopening = 0
	l.explore = newExploration(l.now)
}

// testify takes the evidence of a throttle: how long one takes to come, and
// that its charge was not in the way of others.
func (l *Ledger) testify(g Grant, reserve [dimensions]time.Duration, now time.Duration) {
	ws := &l.witnesses
	heard := !ws.drop(g.id) && now-g.at > ws.patience
	ws.patience = min(max(ws.patience*9/10, patienceTrips*(now-g.at), patienceLeast), patienceMost)
	if heard && g.beyond {
		l.forget() // it was taken for an accept
		return
	}
	for d := range reserve {
		ws.lower(g.at, d, reserve[d])
	}
}

// exploration is the rare start above what is known to be safe: the only way to
// learn that a limiter holds more, or that the quota was raised.
type exploration struct {
	on        bool
	beyond    scope         // what it goes beyond
	from, to  time.Duration // of the last one
	rounds    int
	throttles int           // of the last one
	owed      int           // successes until the next
	due       time.Duration // no next one before
	pace      time.Duration // the next start of this one
	// theMinute: the kind that stands was explored alone. theBucket: one refused a start
	// beyond it.
	tried [2]bool
}

// scope is what an exploration goes beyond.
type scope uint8

const (
	theMinute scope = iota // alone: not beyond the buckets
	theBucket              // alone: not beyond the minute
	everything
)

func newExploration(now time.Duration) exploration {
	return exploration{due: now + exploreFirst}
}

// never is a time that does not come.
const never = time.Duration(1<<63 - 1)

// when returns the time at which a charge that is safe at a later time may
// explore, and beyond what.
func (e *exploration) when(l *Ledger, p permits) (time.Duration, scope) {
	at := max(l.now, e.pace)
	if !e.on {
		if l.current < l.share.top || l.unpaced() {
			return never, everything
		}
		if at = max(l.now, e.due); e.rounds >= 2 {
			at = max(at, l.recovery.since+exploreQuiet, l.share.whole+exploreQuiet)
		}
	}
	if !e.gentle(l) {
		if !e.on || e.beyond != everything {
			for d := range l.quota { // what the clock's minute took at its turn counts towards the pace
				at = max(at, l.quota[d].window.paced(explorePace*l.current))
			}
		}
		return at, everything
	}
	// Where one alone is in the way, to go beyond it costs nothing if the other is the
	// real one: beyond the minute, which over-reserved work meets at half of the
	// quota, a bucket will not throttle; beyond a bucket, a minute by the clock will
	// not, which admits all of itself at once. So will a rolling one; but what leaves
	// that in bursts, and is started again in bursts, throttles more beside others than a
	// small bucket's even pace does. So there it is for a bucket that holds few jobs, and
	// forgotten when others come. It goes on until a throttle, or until nothing is in
	// the way.
	again := l.firm && e.owed <= 0 // nothing else will refute it
	mayMinute := e.on && e.beyond == theMinute || !e.tried[theMinute] || again
	if t := max(at, p.buckets); mayMinute && t < p.all && t > l.born+minute {
		return t, theMinute
	}
	mayBucket := e.on && e.beyond == theBucket || !e.on && e.tried[theMinute] && !e.tried[theBucket]
	if t := max(at, p.minutes); mayBucket && t < p.all && t > l.born+minute {
		return t, theBucket
	}
	return never, everything
}

// gentle reports whether one may go beyond the minute or a bucket only, not beyond
// both: another is not earned yet; or this is a part of a quota, and what more there
// is than the first two have found is the others'.
func (e *exploration) gentle(l *Ledger) bool {
	running := e.on && e.beyond == everything
	return e.owed > 0 || l.firm && e.rounds >= 2 && !running
}

// minuteStands reports whether some limit may count minutes.
func (l *Ledger) minuteStands() bool {
	for d := range l.quota {
		if q := &l.quota[d]; q.cost > 0 && q.window.kind < neither {
			return true
		}
	}
	return false
}

// minuteFull reports whether we have taken all of a minute by the clock, where that may
// keep the pace.
func (l *Ledger) minuteFull() bool {
	for d := range l.quota {
		if q := &l.quota[d]; q.cost > 0 && q.minutely() && q.window.kind == calendar && q.window.turn.charged > q.window.limit() {
			return true
		}
	}
	return false
}

// begin notes a start that is not safe, and reports whether it belongs to an
// exploration.
func (e *exploration) begin(l *Ledger, p permits) bool {
	at, beyond := e.when(l, p)
	if at > l.now {
		return false
	}
	if !e.on || e.beyond != beyond {
		e.on, e.from, e.throttles, e.beyond, e.pace = true, l.now, 0, beyond, 0
		switch beyond {
		case everything:
			e.rounds++
		case theMinute:
			e.tried[theMinute] = true
		case theBucket:
			for d := range l.quota {
				if q := &l.quota[d]; q.window.kind == rolling && q.even == 0 {
					q.even = q.burst
				}
			}
		}
	}
	return true
}

// end ends an exploration; the next one has to be earned by so many successes.
func (e *exploration) end(now time.Duration, owed int) {
	e.on, e.to, e.due, e.owed = false, now, now, owed
}

// refused ends an exploration, and reports whether the throttle was its doing.
func (e *exploration) refused(g Grant, now time.Duration) bool {
	first := e.rounds == 1 && e.beyond == everything
	if e.on {
		if e.end(now, e.owed); first {
			e.due = now + exploreSecond
		}
	}
	if e.from == 0 || g.at < e.from-lag || g.at > e.to {
		return false
	}
	if e.beyond == theBucket { // a start that was safe says nothing of a bucket
		if g.beyond {
			e.tried[theBucket] = true
			e.owed += explorePrice
		}
		return g.beyond
	}
	if e.throttles++; !first {
		e.owed = explorePrice * e.throttles
	}
	return true
}
