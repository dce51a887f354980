package pacing

import (
	"math"
	"time"
)

// Limits is a quota per minute; zero means that the dimension is not limited.
type Limits struct {
	RPM, TPM float64
	// Firm keeps to this rate even where more is accepted: it is a part of a
	// quota, and the rest is for others.
	Firm bool
}

// The dimensions of a quota.
const (
	requests = iota
	tokens
	dimensions
)

const (
	// openMost bounds the grants that can be told apart: one that is still open
	// when so many others have started after it is forgotten: its charge stays
	// as it was reserved. At 10,000 RPM that is more than six minutes. Too small: late
	// settlements are lost, and with them a refund. Too large: memory, a bit
	// each.
	openMost = 1 << 16

	// slipsFree throttles that nothing explains, one forgiven each slipFade,
	// only correct the replicas before the share is cut; so do as many probes
	// refused in a row. Too small: one burst of a neighbour costs a minute of
	// share. Too large: throttles until a real neighbour is believed.
	slipsFree = 2
	slipFade  = 20 * time.Second

	// sigmas makes the margin for estimates from their mean errors, of which a
	// standard deviation is 1.25: two and a half of those. Too small: large jobs
	// throttle on a full limiter. Too large: goodput where few large jobs fill it.
	sigmas = 2.5 * 1.25

	// asking is how long after a start was to come somebody still waits for it, or for
	// what became of it. Too small: the share grows while a probe is in the air. Too
	// large: it does not, for as long, where the last job has left.
	asking = time.Second

	// oversizeEvery is the time between starts that need a whole minute. Too
	// small: such jobs starve all others. Too large: they wait for hours.
	oversizeEvery = 10 * minute
	// oversizeAgain is that after one that was throttled, with all of a minute free:
	// a limiter that counts minutes will never take such a request. Too small: minutes
	// are left empty for nothing (3 % of the goodput for each in half an hour). Too
	// large: it takes long until a job is failed for it.
	oversizeAgain = 40 * minute
)

// Ledger is the account of what one quota was charged and when its next start
// is allowed. It is a value: a copy is a fork of the account. It is not safe
// for concurrent use. Times that go back count as the latest seen.
type Ledger struct {
	epoch time.Time // what the times within are counted from
	born  time.Duration
	now   time.Duration // the latest time seen

	quota   [dimensions]replica
	firm    bool // the share is never above 1
	share   share
	current float64 // the share now

	next     uint64 // the number of the next grant; grants begin at 1
	open     [openMost / 64]uint64
	inFlight int
	// A bucket that is full has forgotten what it was owed, and by how much those
	// reservations were off.
	full  time.Duration // when the tokens' bucket was surely full, last
	fresh float64       // the variance of what was started since

	witnesses witnesses
	explore   exploration

	recovery  recovery
	emptied   emptied
	slips     float64
	slippedAt time.Duration
	// What a rolling minute was seen to hold, in quotas, when it reopened after a
	// long stall; 0 where there was none, or others were heard of since.
	reopening float64

	// Where nothing is limited there is no rate to cut, so the share is one of
	// what was in flight at the first throttle. 0 for no bound.
	peak       int
	oversizeAt time.Duration // the earliest start of the next oversize request
	// oversizeOwed is until when one that was accepted may be owed.
	oversizeOwed time.Duration
	boundUntil   time.Duration // the last answer of When, if it was to wait
}

// Grant is the permission to start one request. It is settled, refused or
// cancelled once; doing so again changes nothing.
type Grant struct {
	id       uint64
	at       time.Duration
	charge   Charge
	beyond   bool // started in an exploration, above what is known to be safe
	oversize bool
}

// NewLedger returns the ledger of a quota of which only the limits are known.
// It has no credit for a burst: the minute before now is unknown.
func NewLedger(limits Limits, now time.Time) Ledger {
	// The epoch lies far enough back that the unknown minute has positive
	// times.
	born := 2*minute + now.Sub(now.Truncate(minute))
	return Ledger{
		epoch: now.Add(-born), born: born, now: born,
		quota:     [...]replica{newReplica(limits.RPM, born), newReplica(limits.TPM, born)},
		share:     share{top: 1, whole: born},
		firm:      limits.Firm,
		current:   1,
		next:      1,
		witnesses: newWitnesses(),
		explore:   newExploration(born),
		recovery:  recovery{since: born - minute}, slippedAt: born,
	}
}

// advance brings everything to the time and returns it, counted from the epoch.
func (l *Ledger) advance(at time.Time) time.Duration {
	now := max(at.Sub(l.epoch), l.now)
	for d := range l.quota {
		l.quota[d].earn(now-l.now, l.current, l.share.top)
	}
	if q := &l.quota[tokens]; q.debt < 0 && q.debt+jitter+q.time(Apart(l.fresh, 0)) <= 0 {
		l.full, l.fresh = now, 0
	}
	l.emptied.offered += time.Duration(float64(now-l.now) * l.current)
	if l.recovery.stalled() || l.gap(now) { // nothing is learned meanwhile, for as long as somebody asks
		l.share.cutAt += max(min(now, l.boundUntil+asking)-l.now, 0)
	}
	l.now = now
	l.reshare()
	for d := range l.quota {
		l.quota[d].window.advance(now, l.current)
	}
	l.hear(now)
	if l.current == l.share.top && now-l.share.whole > minute {
		l.peak, l.reopening = 0, 0
	}
	return now
}

// reshare brings the share to the time.
func (l *Ledger) reshare() {
	was := l.current
	l.current = l.share.at(l.now)
	for d := range l.quota {
		l.quota[d].resize(was, l.current)
	}
}

// costs returns what the charge takes in each dimension.
func (l *Ledger) costs(c Charge) (reserve, expect [dimensions]time.Duration) {
	reserve[requests] = l.quota[requests].time(1)
	expect[requests] = reserve[requests]
	reserve[tokens] = l.quota[tokens].time(c.Reserve)
	expect[tokens] = l.quota[tokens].time(c.Expect)
	return reserve, expect
}

// surplus is what a settlement is expected to take beyond the reservation.
func surplus(reserve, expect time.Duration) time.Duration { return max(expect-reserve, 0) }

// permits holds when a charge may start: by the buckets alone, by the minutes alone,
// and by everything.
type permits struct {
	buckets time.Duration
	minutes time.Duration // where a bucket is in the way that may be explored alone; else never
	// Every shape that stands, the time between oversize starts, and the number in
	// flight of an unpaced quota.
	all time.Duration
}

// safe returns when, from a time on, what stands permits the charge.
func (l *Ledger) safe(c Charge, from time.Duration) (p permits) {
	reserve, expect := l.costs(c)
	// How far the debts may be off, without and with this charge, and the minute
	// with it.
	off := func(variance float64, own int64) [dimensions]time.Duration {
		return [...]time.Duration{tokens: l.quota[tokens].time(Apart(variance, own))}
	}
	without, with, whole := off(l.fresh, 0), off(l.fresh, c.Doubt), off(l.quota[tokens].window.sum.doubt, c.Doubt)
	p.buckets = from
	for d := range l.quota {
		if q := &l.quota[d]; q.cost > 0 {
			// A settlement above its reservation, and half of another, may be on
			// their way: with one, a bucket of a second throttles 15 per 1,000.
			margin := jitter + with[d] + surplus(reserve[d], expect[d])*3/2
			p.buckets = max(p.buckets, l.now+q.wait(reserve[d], jitter+without[d], margin, l.current))
		}
	}
	// Planned with the larger of reservation and settlement, or what is in flight
	// settles above the quota. Where a small bucket keeps the pace, it is enough to
	// count what is charged.
	var amount [dimensions]time.Duration
	for d := range l.quota {
		if amount[d] = reserve[d] + whole[d]; l.quota[d].minutely() {
			amount[d] += surplus(reserve[d], expect[d])
		}
	}
	p.minutes = never
	if kind := l.keeper(); p.buckets > from && (kind == calendar || kind == rolling && l.coarse(reserve)) {
		p.minutes = l.room(amount, from)
	}
	p.all = p.buckets
	if l.Oversize(c) {
		p.all = max(p.all, l.oversizeAt)
	}
	p.all = l.room(amount, p.all)
	if l.peak > 0 && float64(l.inFlight) >= max(l.current*float64(l.peak), 1) {
		p.all = max(p.all, l.now+pauseMost) // or earlier, when one of them ends
	}
	return p
}

// coarse reports whether a bucket holds fewer than four such reservations.
func (l *Ledger) coarse(reserve [dimensions]time.Duration) bool {
	for d := range l.quota {
		if 4*reserve[d] > l.quota[d].burst {
			return true
		}
	}
	return false
}

// room returns the first time from then on at which the minutes have room.
func (l *Ledger) room(amount [dimensions]time.Duration, from time.Duration) (at time.Duration) {
	at = from
	for again := true; again; { // room in one can be gone when the other has some
		again = false
		for d := range l.quota {
			if q := &l.quota[d]; q.cost > 0 {
				t := q.window.when(amount[d], at, l.current, q.minutely())
				at, again = max(at, t), again || t > at
			}
		}
	}
	return at
}

// Apart returns how many tokens more than estimated some reservations may be: those
// whose squared doubts (Charge.Doubt, in tokens) sum up to the variance, and one of its
// own doubt.
func Apart(variance float64, own int64) int64 {
	return int64(sigmas * math.Sqrt(variance+float64(own)*float64(own)))
}

// When returns the earliest time at which the charge may start, as things
// stand: now or earlier means now. To ask means that there is backlog. Every
// event can change the answer, so ask again after one, and when the time has
// come.
func (l *Ledger) When(c Charge, now time.Time) time.Time {
	t := l.advance(now)
	from := max(t, l.recovery.when(&l.witnesses))
	p := l.safe(c, from)
	at := p.all
	if at > from && !l.Oversize(c) {
		explored, _ := l.explore.when(l, p)
		at = min(at, max(from, explored))
	}
	if l.boundUntil = 0; at > t {
		l.boundUntil = at
	}
	return l.epoch.Add(at)
}

// Start takes the reservation. It does not ask whether When permits.
func (l *Ledger) Start(c Charge, now time.Time) Grant {
	t := l.advance(now)
	reserve, expect := l.costs(c)
	g := Grant{id: l.next, at: t, charge: c, oversize: l.Oversize(c)}
	if p := l.safe(c, t); p.all > t && !g.oversize {
		g.beyond = l.explore.begin(l, p)
	}
	if e := &l.explore; e.on && (g.beyond || e.beyond != theBucket) {
		spacing := float64(max(expect[requests], expect[tokens])) / (explorePace * l.current)
		e.pace = max(e.pace, t) + time.Duration(spacing)
	}
	if g.oversize {
		l.oversizeAt = t + oversizeEvery
		l.oversizeOwed = l.oversizeAt
	}

	l.witnesses.start(l, g, reserve)
	for d := range l.quota {
		q := &l.quota[d]
		q.charge(reserve[d])
		q.window.change(t, entry{charged: reserve[d], extra: surplus(reserve[d], expect[d]), doubt: square(c.Doubt)})
	}

	l.next++
	if bit := &l.open[g.id%openMost/64]; *bit&(1<<(g.id%64)) == 0 {
		*bit |= 1 << (g.id % 64)
		l.inFlight++
	} else { // this start forgets the grant openMost before it, and takes its place
		l.fresh -= l.fresh / float64(l.inFlight)
	}
	l.fresh += square(c.Doubt)
	return g
}

// end closes the grant and brings everything to the time; it reports whether the
// grant was still open. The time comes first: what this grant may be off by tells
// whether the bucket has been full since.
func (l *Ledger) end(g Grant, at time.Time) (now time.Duration, ok bool) {
	if g.id == 0 || g.id >= l.next || l.next-g.id > openMost {
		return 0, false
	}
	bit := &l.open[g.id%openMost/64]
	if *bit&(1<<(g.id%64)) == 0 {
		return 0, false
	}
	now = l.advance(at)
	*bit &^= 1 << (g.id % 64)
	l.inFlight--
	l.quota[tokens].window.change(g.at, entry{doubt: -square(g.charge.Doubt)})
	if g.at >= l.full {
		l.fresh = max(l.fresh-square(g.charge.Doubt), 0)
	}
	if l.inFlight == 0 {
		l.fresh = 0 // what rounding left
	}
	return now, true
}

func square(n int64) float64 { return float64(n) * float64(n) }

// Settle ends a grant whose request was answered, with what that was charged, and
// what its input turned out to be, cached or not, both in tokens; the input is 0
// where nobody said.
func (l *Ledger) Settle(g Grant, settled, input int64, now time.Time) {
	t, ok := l.end(g, now)
	if !ok {
		return
	}
	l.witnesses.answered(g.id)
	l.explore.owed--
	l.share.tally++
	reserved := g.charge.Reserve
	if input > 0 {
		reserved += input - g.charge.Input
	}
	l.settle(g, settled, reserved, t)
}

// Cancel ends a grant without a settlement that is known: the request was not
// sent, or ended in an error or a time-out. AWS does not say what such a
// request is charged. We take what it was expected to cost, between nothing and all
// of its reservation.
func (l *Ledger) Cancel(g Grant, now time.Time) {
	t, ok := l.end(g, now)
	if !ok {
		return
	}
	l.witnesses.drop(g.id)
	l.settle(g, g.charge.Expect, g.charge.Reserve, t)
}

// settle books what was settled; reserved is what the limiter took at the start, as
// the usage now shows.
func (l *Ledger) settle(g Grant, settled, reserved int64, now time.Duration) {
	reserve, expect := l.costs(g.charge)
	late := l.witnesses.since(now - lag)
	d := tokens // a request stays charged
	refund := reserve[d] - l.quota[d].time(max(settled, 0))
	l.quota[d].window.change(g.at, entry{charged: -refund, extra: -surplus(reserve[d], expect[d])})
	if g.at < l.full {
		// The bucket has forgotten what was reserved, and gives back of what was in
		// truth.
		refund += l.quota[d].time(reserved) - reserve[d]
	}
	if refund > 0 {
		l.quota[d].refund(refund, late[d])
		l.witnesses.lower(now-lag, d, refund)
	} else {
		l.quota[d].charge(-refund)
	}
}

// Refuse ends a grant whose request was throttled: it was not charged, and it
// tells that the limiter is emptier than its replicas.
func (l *Ledger) Refuse(g Grant, now time.Time) {
	t, ok := l.end(g, now)
	if !ok {
		return
	}
	if g.oversize {
		l.oversizeOwed = 0
		if !l.firm { // of a part of a quota, it can have been the others
			l.oversizeAt = max(l.oversizeAt, g.at+oversizeAgain)
		}
	}
	l.doubtReopening()
	// An exploration of a minute that we have filled ourselves says nothing of the bucket.
	explained := g.beyond && l.explore.beyond == everything && l.minuteFull()
	reserve, expect := l.costs(g.charge)
	for d := range l.quota {
		q := &l.quota[d]
		q.refused(reserve[d])
		if l.reopening == 0 && !explained {
			// That its reservation was refused says that the bucket was emptier than
			// that, or not full where that is more: on average by half.
			q.empty(l.current, min(reserve[d], q.capacity(l.current))/2)
		}
		q.window.change(g.at, entry{charged: -reserve[d], extra: -surplus(reserve[d], expect[d])})
	}
	l.testify(g, reserve, t)
	l.throttled(g, t)
}

// throttled decides what a refusal means: an exploration's own doing, a slip of
// the replicas, or others who use the quota.
func (l *Ledger) throttled(g Grant, now time.Duration) {
	explored := l.explore.refused(g, now)
	r := &l.recovery
	if g.at < r.since {
		return // of the flight that is known
	}
	reserve, _ := l.costs(g.charge)
	if explored && now >= l.oversizeOwed { // an oversize charge is owed all the same
		for d := range l.quota {
			l.quota[d].found(reserve[d], l.current)
		}
	}
	stalled := r.refused(&l.witnesses, now, !explored)
	if explored || g.oversize {
		return
	}
	f := l.find(now)
	if l.reopening > 0 { // no more than the minute of a quota that was cut: it has no room for that
		l.measured(l.used() + float64(max(reserve[requests], reserve[tokens])/2)/float64(minute))
		return
	}
	for d := range l.quota {
		if w := &l.quota[d].window; l.quota[d].cost > 0 {
			planned := l.quota[d].minutely()
			if w.kind == calendar && w.sum.charged > w.limit() && w.room(planned) > reserve[d]+doubtMinute {
				// What had room, and a rolling minute would not have permitted: the
				// clocks differ.
				w.kind, l.explore.tried[theMinute] = rolling, true
			}
			w.fill(planned)
		}
	}
	l.share.heed(now, f)
	switch {
	case stalled:
		r.resume = max(r.resume, l.turn())
		// To have corrected the replicas was not enough.
		if r.cut || r.refusals < slipsFree {
			return
		}
	case l.current >= l.share.top && !(f.burst > atOnce && l.share.wasCut(now)):
		l.slips = max(l.slips-float64(now-l.slippedAt)/float64(slipFade), 0) + 1
		l.slippedAt = now
		if l.slips <= slipsFree {
			return
		}
	}
	if l.peak == 0 && l.unpaced() {
		l.peak = l.inFlight + 1
	}
	r.cut = true
	for d := range l.quota {
		l.quota[d].evenly()
	}
	used := math.Inf(1)
	if stalled {
		// A minute that stays full is what it took, and has no rest to find out.
		used = l.used()
	}
	l.share.cut(now, f, used)
	l.reshare()
}

// Forecast returns how long so much backlog takes at the present pace, and at that
// of the quota when all of it is ours again. n counts requests, settled the tokens
// of their settlements. It is 0 where nothing is limited.
func (l *Ledger) Forecast(n, settled float64) (now, whole time.Duration) {
	cost := max(n*l.quota[requests].cost, settled*l.quota[tokens].cost)
	at := func(share float64) time.Duration {
		return time.Duration(min(cost/share, float64(365*24*time.Hour)))
	}
	return at(l.current), at(l.share.top)
}

// Oversize reports whether the charge is more than the tokens of a whole minute: where
// minutes may keep the pace, of one as it is believed to be now. Such a start needs a
// minute that is empty.
func (l *Ledger) Oversize(c Charge) bool {
	q, whole := &l.quota[tokens], l.share.top
	if q.minutely() {
		whole = max(l.current, l.share.level)
	}
	return q.time(c.Reserve) > time.Duration(whole*float64(minute))
}

func (l *Ledger) unpaced() bool {
	return l.quota[requests].cost == 0 && l.quota[tokens].cost == 0
}

// View is what the ledger believes, for status and metrics.
type View struct {
	Share    float64       // the part of the configured quota in use; above 1 where a higher quota was found
	Shape    string        // what the limiter is believed to be
	Bucket   time.Duration // the same in figures: what its bucket holds, in quota time
	Minute   bool          // and whether a minute, rolling or by the clock, stands beside that
	Requests float64       // charged in the last minute
	Tokens   float64       // charged in the last minute: reservations in flight, settlements after
	// What could start at once; below 0, what must be earned or leave the minute
	// first. 0 where nothing is limited.
	RequestLevel, TokenLevel float64

	Margin   time.Duration // quota time that is kept unused
	InFlight int           // grants that are open
	Bound    bool          // backlog waits, and the quota is why
}

// View returns what the ledger believes at a time.
func (l *Ledger) View(now time.Time) View {
	t := l.advance(now)
	v := View{Share: l.current, Shape: "unpaced", Margin: jitter, InFlight: l.inFlight, Bound: t < l.boundUntil}
	unknown := max(l.born+minute-t, 0)
	used, level := [...]*float64{&v.Requests, &v.Tokens}, [...]*float64{&v.RequestLevel, &v.TokenLevel}
	for d := range l.quota {
		if q := &l.quota[d]; q.cost > 0 {
			*used[d] = max(float64(q.window.sum.charged-unknown)/q.cost, 0)
			*level[d] = float64(q.level(l.current)) / q.cost
			if q.burst >= v.Bucket { // more was learned of it
				v.Shape, v.Bucket, v.Minute = q.shape(), q.burst, q.window.kind != neither
			}
		}
	}
	return v
}

// level returns what the strictest shape that stands has room for.
func (r *replica) level(share float64) time.Duration {
	level := r.capacity(share) - max(r.debt, 0)
	return min(level, r.window.room(r.minutely()))
}

// shape names what is believed of the limiter.
func (r *replica) shape() string {
	bucket := "bucket of " + r.burst.Round(100*time.Millisecond).String()
	return bucket + r.window.kind.String()
}
