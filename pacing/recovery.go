package pacing

import "time"

const (
	// pauseFirst and pauseMost bound the wait before the next probe when probes
	// are refused in a row; it doubles. Too small: a full limiter is hammered (at
	// 0.1 s first, a quarter more throttles in a neighbour's bursts). Too large: a
	// rolling minute is found open late (under half of the quota, 94 instead of 99
	// % at 0.8 s first; 76 instead of 95 at 20 s most, and no fewer throttles).
	pauseFirst = 400 * time.Millisecond
	pauseMost  = 5 * time.Second

	// probesMost is how many starts may be unanswered before a recovery is over.
	// Too small: the credit that a pause has earned goes out in one flight, and
	// is throttled as one where others took it. Too large: a fast route takes
	// rounds of patience to be back at its pace.
	probesMost = 16
)

// recovery holds starts back after a throttle: one probe in the air until one is
// accepted, then one more for each that is.
type recovery struct {
	on       bool
	slow     bool // one accept is not enough: nobody knows why it was throttled
	cut      bool // the share was cut since the last accept
	since    time.Duration
	most     int           // starts that may be unanswered
	first    int           // the first witness among them
	accepts  int           // since the last refusal
	refusals int           // of probes in a row
	resume   time.Duration // no probe before
	began    time.Duration // the first throttle since the last accept
}

// stalled reports whether nothing was accepted since the last throttle.
func (r *recovery) stalled() bool { return r.on && r.accepts == 0 }

// when returns when the next start may be, as far as earlier ones tell.
func (r *recovery) when(ws *witnesses) time.Duration {
	if !r.on {
		return 0
	}
	at, most := r.resume, r.most
	for i := max(ws.first, r.first); ws.next-i >= most; i++ {
		w := ws.at(i)
		at = max(at, w.at+ws.patience+1)
		if !w.gone {
			most++
		}
	}
	return at
}

// refused begins a recovery, or begins it again; it reports whether nothing has
// been accepted since the last time.
func (r *recovery) refused(ws *witnesses, now time.Duration, slow bool) (stalled bool) {
	stalled = r.stalled()
	*r = recovery{
		on: true, slow: slow, cut: r.cut && stalled,
		since: now, resume: now, most: 1, first: ws.next, refusals: r.refusals, began: r.began,
	}
	if !stalled {
		r.refusals, r.began = 0, now
		return false
	}
	r.resume += min(pauseFirst<<min(r.refusals, 10), pauseMost)
	r.refusals++
	return true
}

// accepted tells that a start was; it reports whether probes had been refused
// until then.
func (r *recovery) accepted(at time.Duration) (atLast bool) {
	if !r.on || at < r.since {
		return false
	}
	r.accepts++
	atLast = r.accepts == 1 && r.slow && r.refusals > 0
	if r.most++; !r.slow || r.most > probesMost {
		r.on = false
	}
	return atLast
}
