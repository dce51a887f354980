package worker

import (
	"container/list"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/pacing"
)

const (
	// lowerTurns: of so many grants of a model, each queue after the first gets
	// one before all others, so that none starves: 5 %.
	lowerTurns = 20
	// linePatience is how long a wait may get for the first in a line, and for
	// those whose wait was within SLUICE_HOLD when they joined it. Released
	// instead, a job that needs most of a minute would find the minute taken by
	// smaller ones each time it comes back, and a pause of the quota would send a
	// whole line through SQS once more. A minute for the quota to refill, and a
	// margin.
	linePatience = 75 * time.Second
	// firstTook is what an invocation is believed to take until one was seen.
	firstTook = time.Second
)

// firstCharge is what a job is believed to cost until one was seen.
var firstCharge = pacing.Charge{Reserve: 1000, Expect: 1000, Input: 500}

// dispatcher hands out grants. It alone knows routes, lines and waiting tasks,
// under one mutex; nothing under it blocks. Its one loop is pump: who may start
// now, and when to ask again.
type dispatcher struct {
	log   *slog.Logger
	hold  time.Duration
	trace tracer
	slots int           // invocations at once
	halt  chan struct{} // closed on stop
	room  []chan struct{}

	mu        sync.Mutex
	arriving  []int // received, and their model not known yet, by source
	ending    int   // they will not start any more; their results and copies are on their way
	models    map[string]*model
	order     []*model
	quotas    map[quotaKey]*quota
	inFlight  int
	seq       uint64
	suspended bool
	stopping  bool
	timer     *time.Timer
	pumped    time.Time  // when pump ran last
	bound     bool       // since then, slots were the limit
	released  []releases // by source
	passes    uint64     // of pump
	slotBound time.Duration
	unbounded int64 // jobs without max_tokens that have ended
}

type quotaKey struct{ region, name string }

// quota is one ledger, shared by every route that names it.
type quota struct {
	quotaKey
	ledger *pacing.Ledger
	pass   uint64 // the pass of pump in which a job that comes first claimed it
}

// route is one place that can answer for a model.
type route struct {
	pacing.Route
	at        job.Route
	quota     *quota
	undivided float64
	closed    closure // zero while the gate is open
	counts    routeCounts
}

// closure is when a route's gate was closed, and for which failure: what a person
// needs to find it in AWS's own logs.
type closure struct {
	since           time.Time
	code, requestID string
}

// model is a pool of routes, and the jobs that stand in line for it.
type model struct {
	ModelOptions
	routes   []*route
	lines    []list.List // of *task, by source, in order of arrival
	held     []int       // tasks not yet started that want this model, by source
	waiting  int         // tasks in the lines
	inFlight int
	turns    int           // grants so far
	charge   pacing.Charge // what a job costs on average
	took     time.Duration // what an invocation takes on average
	horizon  time.Time     // where the forecast of released jobs ends
	absent   int           // released jobs that are not yet due
	stalled  time.Time     // since when jobs are released and none starts; zero: they do
	bound    bool          // since the last pump, the quota was the limit
	pass     uint64        // the pass of pump that found that its first task can't start
	counts   modelCounts
}

// grant is the permission to invoke a route once.
type grant struct {
	model  *model
	route  *route
	ticket pacing.Ticket
	failed *job.Failure // what came back in place of an answer
}

func newDispatcher(o Options) *dispatcher {
	now := time.Now()
	d := &dispatcher{
		log: o.Log, hold: o.Hold, trace: o.Trace, slots: o.MaxInFlight,
		halt: make(chan struct{}), models: map[string]*model{}, quotas: map[quotaKey]*quota{}, pumped: now,
	}
	d.arriving, d.released = make([]int, len(o.Sources)), make([]releases, len(o.Sources))
	for range o.Sources {
		d.room = append(d.room, make(chan struct{}, 1))
	}
	for _, mo := range o.Models {
		m := &model{
			ModelOptions: mo, charge: firstCharge, took: firstTook,
			lines: make([]list.List, len(o.Sources)), held: make([]int, len(o.Sources)),
		}
		for _, ro := range mo.Routes {
			key := quotaKey{ro.Region, ro.Quota}
			q := d.quotas[key]
			if q == nil {
				ledger := pacing.NewLedger(ro.Limits, now)
				q = &quota{quotaKey: key, ledger: &ledger}
				d.quotas[key] = q
				d.trace.begin(q, ro.Limits, now)
			}
			m.routes = append(m.routes, &route{
				Route: pacing.Route{Ledger: q.ledger, Estimator: pacing.NewEstimator(mo.Burndown, mo.MaxTokens)},
				at:    ro.Route, quota: q, undivided: ro.Undivided,
			})
		}
		d.models[mo.Alias] = m
		d.order = append(d.order, m)
	}
	d.timer = time.AfterFunc(time.Hour, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.pump(time.Now())
	})
	return d
}

// arrive counts a task that was received, until leave.
func (d *dispatcher) arrive(t *task) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t.arriving = true
	d.arriving[t.source]++
}

// admit counts a task as held for the model that it asks for, and gives it its
// place in the order of arrival.
func (d *dispatcher) admit(t *task) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seq++
	t.seq = d.seq
	d.count(t, t.asked())
}

// rejoin counts a task again that will want another grant.
func (d *dispatcher) rejoin(t *task) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count(t, t.unstruck()[0])
}

// leave ends what arrive and admit began: the task will not start any more,
// however long its result and its copy take.
func (d *dispatcher) leave(t *task) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !t.ending {
		t.ending = true
		d.ending++
	}
	d.count(t, nil)
}

// gone is the end of the task's life.
func (d *dispatcher) gone(t *task) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t.ending {
		d.ending--
	}
	d.count(t, nil)
}

// count moves the task's place among the held. Caller holds mu.
func (d *dispatcher) count(t *task, m *model) {
	if t.arriving {
		t.arriving = false
		d.arriving[t.source]--
	}
	if t.heldBy != nil {
		t.heldBy.held[t.source]--
	}
	if t.heldBy = m; m != nil {
		m.held[t.source]++
		return
	}
	select { // there is room for another
	case d.room[t.source] <- struct{}{}:
	default:
	}
}

// acquire waits for the task's grant. Without one, the task is to be released
// after the delay, unless it is lost or its time is over: its caller looks.
func (d *dispatcher) acquire(t *task) (*grant, time.Duration) {
	for again := false; ; again = true {
		now := time.Now()
		held := t.lease.held()
		d.mu.Lock()
		g, delay, stays := d.stand(t, again, held, now)
		d.pump(now) // it may be this task's turn; or the turn of those behind it
		if g == nil {
			g, t.grant = t.grant, nil
		}
		d.mu.Unlock()
		switch {
		case g != nil && !held:
			d.settle(t, g, pacing.Cancelled, job.Usage{}, false)
			return nil, 0
		case g != nil || !stays:
			return g, delay
		}
		// A turn that came with the grant above wakes the wait below once for
		// nothing, at most.
		timer := time.NewTimer(min(max(d.hold, askAgain), t.nextMoment(now)))
		select {
		case <-t.turn:
		case <-timer.C:
		case <-t.lease.gone:
		case <-d.halt:
		}
		timer.Stop()
	}
}

// stand keeps the task in the line that is right for it, or takes it out for
// good: with its grant, or to be released after the delay. A task that stays
// never leaves its place: behind one that waits for a whole minute, others would
// slip through and take it. Caller holds mu.
func (d *dispatcher) stand(t *task, again, held bool, now time.Time) (g *grant, delay time.Duration, stays bool) {
	if g, t.grant = t.grant, nil; g != nil {
		return g, 0, false
	}
	m, wait := d.place(t, now)
	patience := d.hold
	if again || m.ahead(t) == 0 && m.open() {
		patience = max(patience, linePatience)
	}
	stays = held && !d.stopping && !t.expired(now)
	if stays && wait > patience {
		d.count(t, m) // whose place it will take
		delay, stays = d.delay(t, m, now), false
	}
	if t.in != nil && (!stays || t.in != m) {
		t.in.exit(t)
	}
	if stays && t.in == nil {
		d.count(t, m)
		m.enter(t)
	}
	return nil, delay, stays
}

// place chooses the model whose line the task stands in, and tells how long the
// wait there will be. Caller holds mu.
func (d *dispatcher) place(t *task, now time.Time) (m *model, wait time.Duration) {
	chain := t.unstruck()
	m = chain[0]
	switch late := t.asked().FallbackAfter; {
	case late > 0 && !now.Before(t.submitted.Add(late)):
		for _, c := range chain[1:] {
			if c.wait(t, now) < m.wait(t, now) {
				m = c
			}
		}
	case m.out() && m.soonest(t, now).After(now): // else this task is the probe
		for _, c := range chain[1:] {
			if c.open() {
				m = c
				break
			}
		}
	}
	return m, m.wait(t, now)
}

// pump starts every task that may start now, and sets the timer for the next.
// Caller holds mu.
func (d *dispatcher) pump(now time.Time) {
	d.account(now)
	if d.suspended || d.stopping {
		return
	}
	d.passes++
	pass := d.passes
	next := now.Add(time.Hour)
	for {
		var head *task
		for _, m := range d.order {
			if m.waiting == 0 || m.pass == pass {
				continue
			}
			if t := m.head(); head == nil || t.before(head) {
				head = t
			}
		}
		if head == nil {
			break
		}
		m := head.in
		if d.inFlight >= d.slots {
			d.bound = true
			break
		}
		if m.inFlight >= m.MaxInFlight {
			m.pass = pass
			continue
		}
		r, charge, at := m.first(head, pass, now)
		if r != nil && !at.After(now) {
			d.start(head, m, r, charge, now)
			continue
		}
		m.pass = pass
		m.bound = m.open()
		if r != nil {
			r.quota.pass = pass
			next = earlier(next, at)
		}
	}
	d.timer.Reset(next.Sub(now))
}

// first returns the route that could start the task first, of those that no
// task before it claimed in this pass.
func (m *model) first(t *task, pass uint64, now time.Time) (best *route, charge pacing.Charge, at time.Time) {
	size := t.size(m)
	for _, r := range m.routes {
		if r.quota.pass == pass || !t.mayTry(r, now) {
			continue
		}
		c := r.Estimator.Estimate(size, t.d.Group)
		if w := r.When(c, now); best == nil || w.Before(at) {
			best, charge, at = r, c, w
		}
	}
	return best, charge, at
}

func (d *dispatcher) start(t *task, m *model, r *route, c pacing.Charge, now time.Time) {
	m.exit(t)
	d.count(t, nil)
	d.inFlight++
	m.inFlight++
	m.stalled = time.Time{}
	m.charge.Reserve += (c.Reserve - m.charge.Reserve) / 20
	m.charge.Expect += (c.Expect - m.charge.Expect) / 20
	m.charge.Input += (c.Input - m.charge.Input) / 20
	m.turns++
	r.counts.reserved += c.Reserve
	t.grant = &grant{model: m, route: r, ticket: r.Start(c, now)}
	d.trace.start(t, now)
	t.signal()
}

// settle ends a grant with what came back and tells the settlement, in quota
// tokens.
func (d *dispatcher) settle(t *task, g *grant, o pacing.Outcome, u job.Usage, metered bool) (settled int64) {
	now := time.Now()
	m, r := g.model, g.route
	d.mu.Lock()
	var input int64
	if o == pacing.Answered {
		m.took += (now.Sub(g.ticket.Start) - m.took) / 20
		r.counts.latency.Observe(now.Sub(g.ticket.Start).Seconds())
		settled = g.ticket.Charge.Expect
		if metered {
			used := pacing.Usage{Input: u.InputTokens, Output: u.OutputTokens, CacheRead: u.CacheReadTokens, CacheWrite: u.CacheWriteTokens}
			settled, input = used.Settlement(m.Burndown), used.Read()
			r.Estimator.Learn(t.size(m), t.d.Group, used)
		}
		r.counts.settled += settled
	}
	d.inFlight--
	m.inFlight--
	news := r.End(g.ticket, o, settled, input, t.hash, now)
	cause := r.Gate.Cause()
	d.trace.end(g, o, settled, now)
	if news {
		r.closed = closure{}
		if f := g.failed; f != nil {
			r.closed = closure{now, f.Code, f.RequestID}
		}
		for i := range m.lines { // think again: fall back, or leave
			for e := m.lines[i].Front(); e != nil; e = e.Next() {
				e.Value.(*task).signal()
			}
		}
	}
	d.pump(now)
	d.mu.Unlock()
	if news { // not under the lock: a log may block
		log := d.log.With("model", m.Alias, "region", r.at.Region, "model_id", r.at.ModelID)
		if f := g.failed; f != nil {
			log.Warn("route "+cause.String(), "reason", f.Reason, "code", f.Code, "request_id", f.RequestID)
		} else {
			log.Info("route " + cause.String())
		}
	}
	return settled
}

// fail ends a grant with a failure, counts it, and says whether the job has had
// too many of its kind.
func (d *dispatcher) fail(t *task, g *grant, f *job.Failure) (over bool) {
	now := time.Now()
	g.failed = f
	d.settle(t, g, outcomeOf(f.Reason), job.Usage{}, false)
	r := g.route
	d.mu.Lock()
	defer d.mu.Unlock()
	switch f.Reason {
	case job.Throttled, job.Exhausted:
		increment(&r.counts.throttles, f.Cause)
	case job.Unauthorized:
		return t.record.refuse(r, r.Successes(), now)
	case job.Rejected:
	default:
		r.counts.capacity++
		return t.record.fail(&r.Route, f.Timeout, now)
	}
	return false
}

// whole is the largest quota of a minute that the model has, in tokens, if the
// grant's charge exceeds it; else 0. A part of a quota that is too small makes
// no job too large.
func (g *grant) whole() (most float64) {
	for _, r := range g.model.routes {
		if r.undivided == 0 || float64(g.ticket.Charge.Reserve) <= r.undivided {
			return 0
		}
		most = max(most, r.undivided)
	}
	return most
}

// oversize fails a job that no route's whole quota could ever admit: with its
// own max_tokens and half of its estimated input, in case that is wrong.
func (d *dispatcher) oversize(t *task) *job.Failure {
	d.mu.Lock()
	defer d.mu.Unlock()
	var needs, most float64
	for _, c := range t.chain {
		for _, r := range c.model.routes {
			input := r.Estimator.Estimate(c.size, t.d.Group).Input
			needs = float64(c.size.MaxTokens + input/2)
			if c.size.MaxTokens == 0 || r.undivided == 0 || needs <= r.undivided {
				return nil
			}
			most = max(most, r.undivided)
		}
	}
	return &job.Failure{Reason: job.Oversize, Message: fmt.Sprintf(
		"max_tokens and half of the estimated input are %.0f tokens, the largest quota is %.0f a minute", needs, most)}
}

// suspend stops or resumes the starting of jobs. It asks whether to under its
// lock, so that of two changes the later counts.
func (d *dispatcher) suspend(whether func() bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.suspended = whether()
	d.pump(time.Now())
}

// stop starts nothing any more: who waits is released.
func (d *dispatcher) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopping = true
	d.timer.Stop()
	close(d.halt)
}

// account adds the time since the last pump to what was the limit meanwhile.
func (d *dispatcher) account(now time.Time) {
	since := now.Sub(d.pumped)
	d.pumped = now
	for _, m := range d.order {
		if m.bound {
			m.counts.quotaBound += since
		}
		m.bound = false
	}
	if d.bound {
		d.slotBound += since
	}
	d.bound = false
}

// enter puts the task into its source's line, by its order of arrival: one that
// comes back keeps its place.
func (m *model) enter(t *task) {
	line := &m.lines[t.source]
	e := line.Back()
	for e != nil && e.Value.(*task).seq > t.seq {
		e = e.Prev()
	}
	if e == nil {
		t.elem = line.PushFront(t)
	} else {
		t.elem = line.InsertAfter(t, e)
	}
	t.in = m
	m.waiting++
}

// exit takes it out again.
func (m *model) exit(t *task) {
	if t.in == m {
		m.lines[t.source].Remove(t.elem)
		t.in, t.elem = nil, nil
		m.waiting--
	}
}

// head returns the task whose turn it is: the first of the queue with the
// highest priority, but once in lowerTurns the first of each lower one.
func (m *model) head() *task {
	if i := m.turn(); i > 0 && m.lines[i].Len() > 0 {
		return m.lines[i].Front().Value.(*task)
	}
	for i := range m.lines {
		if e := m.lines[i].Front(); e != nil {
			return e.Value.(*task)
		}
	}
	return nil
}

// turn returns the source that comes before all others now, or 0.
func (m *model) turn() int {
	if i := m.turns % lowerTurns; i < len(m.lines) {
		return i
	}
	return 0
}

// before orders the first tasks of two models: by turn, priority, arrival.
func (t *task) before(u *task) bool {
	if a, b := t.rank(), u.rank(); a != b {
		return a < b
	}
	return t.seq < u.seq
}

func (t *task) rank() int {
	if t.source == t.in.turn() {
		return -1
	}
	return t.source
}

// ahead is how many start before the task, roughly: all of the queues with a
// higher priority, and of its own line none or all.
func (m *model) ahead(t *task) (n int) {
	for i := range t.source {
		n += m.lines[i].Len()
	}
	own := &m.lines[t.source]
	if e := own.Front(); e != nil && e.Value.(*task).seq < t.seq {
		n += own.Len()
	}
	return n
}
