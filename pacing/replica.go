package pacing

import "time"

// Every amount in a replica is a time: how long the whole quota takes to earn
// it. Requests and tokens then obey one arithmetic, a rate is the share (one
// second a second when undivided), and integers keep it exact.

const (
	// minute is what every limit is stated for.
	minute = time.Minute

	// jitter is the largest minus the smallest one-way delay of the network: a
	// request can reach the limiter that much earlier, relative to another,
	// than it was sent. Permission keeps this margin. Too small: a full replica
	// is 76 throttles per 1,000 on a rolling minute (measured). Too large: a
	// bucket of one second loses its worth in goodput, 0.7 % at 45 ms.
	jitter = 45 * time.Millisecond

	// lag is twice the largest one-way delay: for so long nobody can tell which
	// reached the limiter first, a refund that is heard of now or a start. Too
	// small: a refund is credited that the limiter dropped for a full bucket
	// (151 throttles per 1,000 at 0). Too large: a bucket that holds few
	// reservations loses goodput (70 % at 50 ms, 62 % at 100 ms).
	lag = 100 * time.Millisecond

	// slot is the grain of the window's log. Too small: memory and time to scan
	// it. Too large: a charge is held up to a slot too long, slot/minute of the
	// goodput.
	slot = 50 * time.Millisecond

	// slots covers a minute, the jitter and the two slots that are partly in it.
	slots = int64((minute+jitter)/slot) + 2

	// smallest is the bucket that is believed in while nothing is known. Too
	// small: starts that come in clumps wait for no reason. Too large: a
	// limiter that holds less throttles at once.
	smallest = time.Second
)

// replica mirrors what the limiter holds against us in one dimension.
type replica struct {
	cost float64 // quota time of one unit, in nanoseconds; 0 where unlimited

	// A bucket of whatever size is short of being full by the same amount:
	// starts add to it, time pays it off, and at zero the bucket is full. So
	// one number mirrors every bucket, and its size is only a threshold. The
	// network hides the order of events, hence two bounds: debt, the most it
	// can be, permits; least, the least it can be, is evidence.
	debt  time.Duration // below 0: for how long the bucket has been full, or what it dropped
	least time.Duration
	took  time.Duration // by how much charges and refunds have changed the debt in all

	burst  time.Duration // the largest bucket that accepts have proved, at a share of 1
	even   time.Duration // what it was before it was explored beside a rolling minute; 0: it was not
	window window
}

func newReplica(perMinute float64, now time.Duration) replica {
	r := replica{burst: smallest, debt: smallest}
	if perMinute > 0 {
		r.cost = float64(minute) / perMinute
	}
	r.window = newWindow(now)
	return r
}

// time returns what n units cost. A week is as good as never, and thousands of
// them can be added up.
func (r *replica) time(n int64) time.Duration {
	const week = 7 * 24 * float64(time.Hour)
	return time.Duration(min(float64(n)*r.cost, week))
}

// earn pays off dt's worth of debt: our share of the quota, or, at the most that
// can be, all of it.
func (r *replica) earn(dt time.Duration, share, top float64) {
	r.debt = max(r.debt-time.Duration(float64(dt)*share), -minute)
	r.least = max(r.least-time.Duration(float64(dt)*top), 0)
}

// capacity returns what the bucket holds. Others who take a part of the rate leave
// what accepts have proved of it; but one that holds little, of which they have
// proved nothing, may be that of a quota that was cut: the smallest has its share.
func (r *replica) capacity(share float64) time.Duration {
	if share > 1 {
		return time.Duration(share * float64(r.burst))
	}
	return r.burst - time.Duration((1-share)*float64(smallest))
}

// wait returns how long the bucket needs until it admits a reservation: it has
// room, or is full (one larger than the bucket overdraws it). The margins are
// how much more the debt, and the debt with the reservation, may really be.
func (r *replica) wait(reserve, debtMargin, margin time.Duration, share float64) time.Duration {
	over := r.debt + min(reserve+margin-r.capacity(share), debtMargin)
	if over <= 0 {
		return 0
	}
	return time.Duration(float64(over)/share) + 1
}

// charge takes from the bucket; how long it has been full no longer counts.
func (r *replica) charge(amount time.Duration) {
	r.owe(max(r.debt, 0) + amount)
	r.least += amount
}

// owe changes the debt by what was taken or given back.
func (r *replica) owe(debt time.Duration) {
	r.took += debt - r.debt
	r.debt = debt
}

// refund gives back what a settlement left of a reservation. late is what was
// started too recently to be sure that it reached the limiter before the refund
// was made: a bucket that was full then has dropped the rest. Where nothing was,
// the more it dropped, the surer it is full.
func (r *replica) refund(amount, late time.Duration) {
	debt := max(r.debt-amount, -minute)
	if late > 0 {
		debt = max(debt, min(r.debt, late))
	}
	r.owe(debt)
	r.least = max(r.least-amount, 0)
}

// refused takes a reservation back that the limiter did not take.
func (r *replica) refused(reserve time.Duration) {
	r.owe(r.debt - reserve)
	r.least = max(r.least-reserve, 0)
}

// empty takes the bucket to hold no more than that.
func (r *replica) empty(share float64, but time.Duration) {
	r.debt = max(r.debt, r.capacity(share)-but)
}

// evenly forgets what the bucket proved to hold beside a rolling minute, if that still
// stands; what it has stays. What leaves a minute in bursts is started again in bursts,
// and others would be in their way.
func (r *replica) evenly() {
	if r.even > 0 && r.window.kind == rolling {
		r.debt = max(r.debt-(r.burst-r.even), min(r.debt, 0))
		r.burst = r.even
	}
	r.even = 0
}

// found forgets what an exploration that a bucket ended seemed to owe: what was
// accepted was there, so that it is empty by now, and no more than that.
func (r *replica) found(reserve time.Duration, share float64) {
	if r.window.kind == neither {
		r.debt = min(r.debt, r.capacity(share)+reserve)
	}
}

// resize keeps what the bucket holds, though not more than all of it, where the share
// changes: that others take less earns us nothing at once.
func (r *replica) resize(was, share float64) {
	if r.debt > 0 {
		r.debt = max(r.debt+r.capacity(share)-r.capacity(was), 0)
	}
}

// window mirrors a minute: a log of what was charged when, in slots.
type window struct {
	log        [slots]entry
	tail, head int64 // the slots in the log, numbered from the epoch
	sum        entry // of the rolling minute
	turn       entry // of the clock's minute; its lost is not kept
	first      int64 // the first slot that may be of it
	kind       minuteKind
}

// minuteKind is a way to count by the minute. What a rolling minute admits, the
// clock's does too, so that they are believed, and refuted, in this order.
type minuteKind uint8

const (
	rolling  minuteKind = iota // any 60 s
	calendar                   // from one full minute, UTC, to the next
	neither                    // a bucket alone
)

func (k minuteKind) String() string {
	return [...]string{" in a rolling minute", " in a calendar minute", ""}[k]
}

// perMinute is the number of slots in a minute.
const perMinute = int64(minute / slot)

// edge is how many slots before and after a full minute the limiter may count
// for either, as the network delays and clocks differ. Too small: throttles at
// full minutes. Too large: a full one is waited out for longer.
const edge = 2

// entry is what one slot holds.
type entry struct {
	charged time.Duration // reservations in flight, settlements after
	extra   time.Duration // what is expected to come: settlements above their reservations
	others  time.Duration // what others took, as throttles said
	lost    time.Duration // what the share took off the limit while the slot passed
	doubt   float64       // the variance of the reservations in flight: their squared doubts, in tokens
}

func (e *entry) add(o entry) {
	e.charged += o.charged
	e.extra += o.extra
	e.others += o.others
	e.lost += o.lost
	e.doubt = max(e.doubt+o.doubt, 0) // not what rounding left
}

func (e *entry) sub(o entry) {
	e.charged -= o.charged
	e.extra -= o.extra
	e.others -= o.others
	e.lost -= o.lost
	e.doubt = max(e.doubt-o.doubt, 0)
}

// counts returns what takes from the limit: with the settlements that are still
// to come, where they are planned.
func (e *entry) counts(planned bool) time.Duration {
	if planned {
		return e.charged + e.others + e.extra
	}
	return e.charged + e.others
}

// lostAt is what a share takes off a slot.
func lostAt(share float64) time.Duration { return time.Duration((1 - share) * float64(slot)) }

// newWindow returns a window that is full, charged evenly: the minute before
// birth is unknown.
func newWindow(now time.Duration) window {
	w := window{head: int64(now / slot)}
	w.tail = oldest(now)
	for n := w.head - int64(minute/slot); n < w.head; n++ {
		w.log[n%slots].charged = slot
		w.sum.charged += slot
	}
	w.turnTo(w.head - (w.head-edge)%perMinute)
	return w
}

// oldest is the slot that at now is about to leave the minute. A slot leaves
// when its end is a minute and the jitter ago.
func oldest(now time.Duration) int64 { return int64((now - minute - jitter) / slot) }

// leaves is when slot n leaves the minute: the inverse of oldest.
func leaves(n int64) time.Duration { return time.Duration(n+1)*slot + minute + jitter }

// turnTo begins a minute by the clock with what may be of it already: the slot
// is the first that surely is.
func (w *window) turnTo(sure int64) {
	w.first, w.turn = sure-2*edge, entry{}
	for n := w.first; n <= w.head; n++ {
		w.turn.add(w.log[n%slots])
	}
}

// turns is when the next minute by the clock has surely begun.
func (w *window) turns() time.Duration { return time.Duration(w.first+perMinute+2*edge) * slot }

// paced is when what the clock's minute has taken would have been taken at that
// pace, from its begin on.
func (w *window) paced(pace float64) time.Duration {
	if w.kind != calendar {
		return 0
	}
	return time.Duration(w.first+edge)*slot + time.Duration(float64(w.turn.charged)/pace)
}

// advance drops the slots that left the minute and opens the new ones.
func (w *window) advance(now time.Duration, share float64) {
	head, tail := int64(now/slot), oldest(now)
	if head == w.head && tail == w.tail {
		return
	}
	for ; w.tail < tail && w.tail <= w.head; w.tail++ {
		w.sum.sub(w.log[w.tail%slots])
		w.log[w.tail%slots] = entry{}
	}
	w.tail = tail
	lost := lostAt(share)
	for w.head = max(w.head, tail-1); w.head < head; {
		w.head++
		w.log[w.head%slots] = entry{lost: lost}
		w.sum.lost += lost
		if (w.head-edge)%perMinute == 0 {
			w.turnTo(w.head)
		}
	}
}

// limit is what the minute holds in all: the mean of the share over it, not the
// share now, which after a cut would stop every start until the minute has
// come down to it.
func (w *window) limit() time.Duration { return max(minute-w.sum.lost, 0) }

// room returns what may start now.
func (w *window) room(planned bool) time.Duration {
	switch w.kind {
	case rolling:
		return w.limit() - w.sum.counts(planned)
	case calendar:
		return w.limit() - w.turn.counts(planned)
	}
	return never
}

// when returns the first time from then on at which the window has room for the
// amount, as things stand. An amount larger than the limit needs all of it.
func (w *window) when(amount, from time.Duration, share float64, planned bool) time.Duration {
	if w.kind != rolling {
		if min(amount, w.limit()) <= w.room(planned) {
			return from
		}
		return max(from, w.turns())
	}
	if share == 1 && w.sum.lost == 0 && amount <= w.room(planned) {
		return from // later there is no less
	}
	sum, n, at := w.sum, w.tail, from
	for gone := oldest(from); n <= w.head && n < gone; n++ {
		sum.sub(w.log[n%slots])
	}
	lost := lostAt(share)
	for {
		limit := max(minute-sum.lost-time.Duration(int64(at/slot)-w.head)*lost, 0)
		if sum.counts(planned)+min(amount, limit) <= limit || n > w.head {
			return at
		}
		sum.sub(w.log[n%slots])
		at = leaves(n)
		n++
	}
}

// change books more (or, negative, less) for what started at that time.
func (w *window) change(at time.Duration, e entry) {
	n := int64(at / slot)
	if n < w.tail || n > w.head {
		return // it left the minute
	}
	w.log[n%slots].add(e)
	w.sum.add(e)
	if n >= w.first {
		w.turn.add(e)
	}
}

// surely returns what the minute must still hold at the time: without the slots
// that may have left it there and not here.
func (w *window) surely(now time.Duration) time.Duration {
	sum, n, left := w.sum.charged, w.tail, int64((now-minute+lag)/slot)
	if w.kind == calendar {
		sum, n, left = w.turn.charged, w.first, w.first+2*edge
		if w.head >= w.first+perMinute {
			return 0 // all of them
		}
	}
	for ; n <= w.head && n < left; n++ {
		sum -= w.log[n%slots].charged
	}
	return sum
}

// rebase believes that the share was this through the whole minute, and nothing
// others'.
func (w *window) rebase(share float64) {
	w.sum.lost, w.sum.others, w.turn.others = 0, 0, 0
	for n := w.tail; n <= w.head; n++ {
		w.log[n%slots].others = 0
		w.log[n%slots].lost = lostAt(share)
		w.sum.lost += w.log[n%slots].lost
	}
}

// fill takes the window to be full now, as a throttle says: what is missing went
// to others, evenly over the minute.
func (w *window) fill(planned bool) {
	missing := w.limit() - w.sum.counts(planned)
	if missing <= 0 {
		return
	}
	e := entry{others: missing / time.Duration(w.head-w.tail+1)}
	for n := w.tail; n <= w.head; n++ {
		w.change(time.Duration(n)*slot, e)
	}
}
