package worker

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluicehq/sluice/pacing"
)

// What the dispatcher's state says about the future: how long a wait will be,
// how much is worth receiving, how long a release should last.

const (
	// longestRelease keeps a release within the 12 hours that SQS counts from
	// the receipt.
	longestRelease = maxLease
	// shortestRelease and slowestFloor bound the floor of a release, which doubles
	// while nothing starts: shorter, and a closed model's jobs spin through SQS;
	// longer, and they sleep on when it has long been open again.
	shortestRelease = time.Second
	slowestFloor    = 15 * time.Minute
	// maxReleased of a queue not yet due, Sluice looks past a closed model no
	// longer: SQS keeps 120,000 of a queue in flight, and each costs a receive to
	// come back.
	maxReleased = 20_000
	// longestAhead is how far ahead of its slot a message is received where slots
	// are the limit: several receives' time. Longer, and waiting jobs take memory
	// that the ones in flight need.
	longestAhead = 500 * time.Millisecond
	// never is a wait that no event in sight will end.
	never = 24 * time.Hour
)

// open says whether some route's gate is open.
func (m *model) open() bool {
	for _, r := range m.routes {
		if r.Gate.Cause() == pacing.Open {
			return true
		}
	}
	return false
}

// out says whether the model is exhausted for the day or its breakers are open:
// the moment for a fallback. Refused credentials are not: a person has to know.
func (m *model) out() bool {
	var closed bool
	for _, r := range m.routes {
		switch r.Gate.Cause() {
		case pacing.Open:
			return false
		case pacing.Broken, pacing.Parked:
			closed = true
		}
	}
	return closed
}

// each is how long one average job takes of the model's routes at their present
// pace, and when nobody else uses their quotas; at most never, and 0 where nothing
// limits them.
func (m *model) each() (now, whole time.Duration) {
	var perSecond, wholes float64
	for _, r := range m.routes {
		if r.Gate.Cause() != pacing.Open {
			continue
		}
		now, whole := r.Ledger.Forecast(1, float64(m.charge.Expect))
		if now <= 0 {
			return 0, 0
		}
		perSecond += 1 / now.Seconds()
		wholes += 1 / whole.Seconds()
	}
	of := func(perSecond float64) time.Duration {
		return time.Duration(min(float64(time.Second)/perSecond, float64(never)))
	}
	return of(perSecond), of(wholes)
}

// soonest is the earliest start on any route, of the task or, without one, of an
// average job.
func (m *model) soonest(t *task, now time.Time) time.Time {
	at := now.Add(never)
	for _, r := range m.routes {
		c := m.charge
		if t != nil {
			if !t.mayTry(r, now) {
				continue
			}
			c = r.Estimator.Estimate(t.size(m), t.d.Group)
		}
		at = earlier(at, r.When(c, now))
	}
	return at
}

// wait is how long the task would stand in the model's line.
func (m *model) wait(t *task, now time.Time) time.Duration {
	wait := m.soonest(t, now).Sub(now)
	if n := m.ahead(t); n > 0 && m.open() { // else a probe comes first, and tells more
		each, _ := m.each()
		wait += min(never, time.Duration(n)*each)
	}
	return wait
}

// capacity is how many jobs the model could start within the hold, held ones
// included.
func (m *model) capacity(hold time.Duration, now time.Time) int {
	left := hold - m.soonest(nil, now).Sub(now)
	switch {
	case left < 0:
		return 0
	case !m.open():
		return 1 // the probe
	}
	most := m.MaxInFlight - m.inFlight + m.turnover(left)
	if each, _ := m.each(); each > 0 {
		most = min(most, 1+int(left/each))
	}
	return most
}

// turnover is how many of the model's invocations will end within the time, as
// far as it is worth looking ahead, and leave their slots to others.
func (m *model) turnover(within time.Duration) int {
	within = min(within, longestAhead)
	return int(min(float64(m.inFlight)*float64(within)/float64(max(m.took, time.Millisecond)), float64(m.MaxInFlight)))
}

// want is how many more messages of a source with this mix of models are worth
// receiving now: what could start within three quarters of the hold, so that a
// forecast that was a little off does not release them again.
func (d *dispatcher) want(source int, x *mix, now time.Time) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.suspended || d.stopping || d.ending >= d.slots+maxCopiesWaiting { // what can't be kept takes room too
		return 0
	}
	var want, held, anywhere int
	total, turnover := 0, 0
	for _, m := range d.order {
		turnover += m.turnover(d.hold * 3 / 4)
		capacity, before := m.capacity(d.hold*3/4, now), 0
		for _, n := range m.held[:source+1] {
			before += n
		}
		for _, n := range m.held {
			total += n
		}
		// A source may fill what those before it leave, and a lower one 5 % of it
		// in any case.
		free, here := capacity-before, before
		if least := (capacity+lowerTurns-1)/lowerTurns - m.held[source]; least > free {
			free, here = least, m.held[source]
		}
		if free <= 0 {
			continue
		}
		anywhere += free
		if x.brings(m) || d.standsIn(m, x) {
			want += free
			held += here
		}
	}
	arriving := d.arriving[source]
	want -= arriving
	free := min(d.slots, d.slots-d.inFlight+turnover) - total - arriving // as many may wait as will get a slot
	switch {
	case anywhere == 0 || free <= 0:
		return 0
	case want <= 0 && arriving > 0:
		return 0
	case want == 0 || d.released[source].due(now) >= maxReleased:
		return x.sample(now)
	case want < batchSize && held > want:
		return 0 // most of what fits is here: wait until a whole batch is worth a call
	}
	return min(want, free)
}

// standsIn says whether the model is the fallback of one that is out, and of
// which a source with this mix brings jobs.
func (d *dispatcher) standsIn(m *model, x *mix) bool {
	return slices.ContainsFunc(d.order, func(asked *model) bool {
		return asked.out() && slices.Contains(asked.Fallback, m.Alias) && x.brings(asked)
	})
}

// delay is how long a release of a task that can't start should last, and makes
// room for it in the forecast.
func (d *dispatcher) delay(t *task, m *model, now time.Time) time.Duration {
	if m.stalled.IsZero() {
		m.stalled = now
	}
	var delay time.Duration
	if t.large = m.open() && m.oversize(t); t.large {
		delay = m.soonest(t, now).Sub(now) - d.hold // the whole minute that it needs is nobody else's place
	} else if m.open() {
		for i := range d.released {
			d.released[i].due(now)
		}
		place := m.schedule(now.Add(m.wait(t, now)), d.hold, now)
		// Back before its place, since the pace can rise and a release can't be called
		// back: in sight too early, it waits in the queue for room. And together
		// with its neighbours there: one receive brings them back.
		lead := d.hold + place.Sub(now)/8
		delay = place.Add(-lead).Truncate(max(d.hold/2, time.Second)).Sub(now)
	} else {
		delay = jitter(min(m.soonest(nil, now).Sub(now), slowestFloor))
	}
	delay = min(delay, t.nextMoment(now), t.lease.received.Add(longestRelease).Sub(now))
	return max(delay, floor(m.stalled, now))
}

// schedule gives a released job its place, at first or later: the next after those
// of the jobs that are away, or one of theirs that was left empty, since they come
// back before their places and some are released again. The places are those of a
// whole quota: a share that is small for a minute would send a long queue away for
// hours.
func (m *model) schedule(first time.Time, hold time.Duration, now time.Time) (place time.Time) {
	m.horizon = later(m.horizon, first)
	place = m.horizon
	_, each := m.each()
	if room := place.Sub(first); room > hold && time.Duration(m.absent)*each < room {
		return place.Add(-time.Duration(rand.Float64() * float64(room-hold)))
	}
	m.horizon = earlier(place.Add(each), now.Add(never))
	return place
}

// oversize says whether the task needs a minute of its own on every open route.
func (m *model) oversize(t *task) bool {
	for _, r := range m.routes {
		if r.Gate.Cause() == pacing.Open && !r.Ledger.Oversize(r.Estimator.Estimate(t.size(m), t.d.Group)) {
			return false
		}
	}
	return true
}

// away counts a released task until it is due.
func (d *dispatcher) away(t *task, delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t.heldBy != nil {
		t.heldBy.absent++
	}
	heap.Push(&d.released[t.source], absence{time.Now().Add(delay), t.submitted, t.heldBy, t.large})
}

// floor is the shortest release since something is stuck: it doubles, as the
// time that has passed does.
func floor(stuck, now time.Time) time.Duration {
	return min(max(now.Sub(stuck), shortestRelease), slowestFloor)
}

// jitter spreads what would come back at one moment over the next tenth.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration(rand.Float64()*float64(d)/10)
}

// usable is nil if some route can be tried, else what closed each.
func (d *dispatcher) usable() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopping {
		return errStopping
	}
	errs := []error{errors.New("no route is usable")}
	for _, m := range d.order {
		if m.open() {
			return nil
		}
		for _, r := range m.routes {
			errs = append(errs, fmt.Errorf("%s/%s: %v (%s)", r.at.Region, r.at.ModelID, r.Gate.Cause(), r.closed.code))
		}
	}
	return errors.Join(errs...)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// releases remembers what was released here and is not yet due: SQS's own age
// of the oldest message is blind after three receives.
type releases []absence

type absence struct {
	due, submitted time.Time
	model          *model // that it waits for; nil: none that is known
	large          bool   // for a minute of its own
}

// due drops what has come back and counts the rest.
func (r *releases) due(now time.Time) int {
	for len(*r) > 0 && !(*r)[0].due.After(now) {
		if m := heap.Pop(r).(absence).model; m != nil {
			m.absent--
		}
	}
	return len(*r)
}

func (r releases) Len() int           { return len(r) }
func (r releases) Less(i, j int) bool { return r[i].due.Before(r[j].due) }
func (r releases) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *releases) Push(x any)        { *r = append(*r, x.(absence)) }
func (r *releases) Pop() any {
	old := *r
	last := old[len(old)-1]
	*r = old[:len(old)-1]
	return last
}
