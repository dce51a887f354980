package pacing

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"time"
)

// A simulation in virtual time: one ledger, one limiter behind a network of 5
// to 50 ms each way, and an endless backlog in order.

// work is a kind of job: its size, and what it turns out to use.
type work struct {
	input, output [2]float64 // ranges, in tokens
	maxTokens     float64
	seconds       [2]float64
	part          bool // output is a range of parts of maxTokens: 1/output
	log           bool // input is log-uniform
}

var (
	short  = work{input: [2]float64{100, 300}, output: [2]float64{16, 64}, maxTokens: 64, seconds: [2]float64{0.5, 2}}
	honest = work{input: [2]float64{500, 3_000}, output: [2]float64{450, 500}, maxTokens: 500, seconds: [2]float64{2, 6}}
	over   = work{input: [2]float64{200, 1_500}, output: [2]float64{5, 20}, part: true, maxTokens: 4_096, seconds: [2]float64{5, 30}}
	burn   = work{input: [2]float64{300, 3_000}, output: [2]float64{300, 900}, maxTokens: 1_000, seconds: [2]float64{3, 15}}
	mixed  = work{input: [2]float64{100, 100_000}, log: true, output: [2]float64{100, 400}, maxTokens: 500, seconds: [2]float64{1, 10}}
)

type task struct {
	size    Size
	reserve float64 // what the limiter takes
	usage   Usage
	settled float64
	lasts   time.Duration
}

func (w work) task(r *rand.Rand, burndown float64) task {
	in := func(v [2]float64) float64 { return v[0] + r.Float64()*(v[1]-v[0]) }
	input := in(w.input)
	if w.log {
		input = math.Exp(in([2]float64{math.Log(w.input[0]), math.Log(w.input[1])}))
	}
	output := in(w.output)
	if w.part {
		output = w.maxTokens / output
	}
	perByte := 0.25 * (1 + 0.01*r.NormFloat64())
	u := Usage{Input: int64(input), Output: int64(output)}
	return task{
		size:    Size{Text: int64(input / perByte), MaxTokens: int64(w.maxTokens)},
		reserve: math.Floor(input) + w.maxTokens,
		usage:   u,
		settled: float64(u.Settlement(burndown)),
		lasts:   time.Duration(in(w.seconds) * float64(time.Second)),
	}
}

// scenario is one run.
type scenario struct {
	configured Limits
	actual     Limits // where it differs
	work       work
	burndown   float64
	lasts      time.Duration
	neighbour  func(now time.Duration) float64 // the part of the quota that others take
	changes    time.Duration                   // when the actual limits become others, if ever
	to         Limits
}

func (s scenario) truth() Limits {
	if s.actual != (Limits{}) {
		return s.actual
	}
	return s.configured
}

// binds is the dimension that the scenario is about.
func (s scenario) binds() int {
	if s.configured.TPM > 0 {
		return tokens
	}
	return requests
}

// warm is what is left out of the figures.
const warm = 2 * time.Minute

// outcome counts what was admitted, by the second, and what was throttled after
// the warm-up.
type outcome struct {
	admitted            [dimensions][]float64 // requests, settled tokens
	accepted, throttled int
}

func newOutcome(lasts time.Duration) (o outcome) {
	for d := range o.admitted {
		o.admitted[d] = make([]float64, lasts/time.Second)
	}
	return o
}

func (o *outcome) admit(now time.Duration, t task) {
	o.admitted[requests][now/time.Second]++
	o.admitted[tokens][now/time.Second] += t.settled
	if now >= warm {
		o.accepted++
	}
}

func (o *outcome) refuse(now time.Duration) {
	if now >= warm {
		o.throttled++
	}
}

// sum is what was admitted in the dimension between two times.
func (o *outcome) sum(d int, from, to time.Duration) (sum float64) {
	for _, v := range o.admitted[d][from/time.Second : to/time.Second] {
		sum += v
	}
	return sum
}

// world is the queue of what happens next.
type world struct {
	events events
	pushed int // orders events of one time
	lasts  time.Duration
}

func (w *world) at(t time.Duration, do func(now time.Duration)) {
	if t < w.lasts {
		w.pushed++
		heap.Push(&w.events, event{t, w.pushed, do})
	}
}

// run plays what happens up to the time, or all of it.
func (w *world) run(until time.Duration) {
	for len(w.events) > 0 && w.events[0].at <= until {
		e := heap.Pop(&w.events).(event)
		e.do(e.at)
	}
}

type event struct {
	at  time.Duration
	tie int
	do  func(now time.Duration)
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].tie < e[j].tie
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(v any)   { *e = append(*e, v.(event)) }
func (e *events) Pop() any {
	v := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return v
}

// play runs the scenario with a ledger.
func (s scenario) play(far limiter, seed uint64) outcome {
	p := s.player(far, seed)
	p.world.run(s.lasts)
	return p.outcome
}

// player is ready to run the scenario.
func (s scenario) player(far limiter, seed uint64) *player {
	p := &player{
		scenario:  s,
		world:     world{lasts: s.lasts},
		random:    rand.New(rand.NewPCG(seed, 1)),
		far:       far,
		ledger:    NewLedger(s.configured, start),
		estimator: NewEstimator(max(s.burndown, 1), 64_000),
		outcome:   newOutcome(s.lasts),
	}
	far.limit(s.truth())
	if s.neighbour != nil {
		p.world.at(0, p.others)
	}
	if s.changes > 0 {
		p.world.at(s.changes, func(time.Duration) { far.limit(s.to) })
	}
	p.next = p.task()
	p.world.at(0, p.wake)
	return p
}

type player struct {
	scenario
	world     world
	random    *rand.Rand
	far       limiter
	ledger    Ledger
	estimator *Estimator
	outcome   outcome

	next  task
	again []task // refused, in order
	asked int    // times that the ledger was asked: an older answer is void
	id    int
	owed  float64 // requests that the neighbour has not got
}

func (p *player) task() task { return p.work.task(p.random, max(p.burndown, 1)) }

func (p *player) network() time.Duration {
	return 5*time.Millisecond + time.Duration(p.random.Int64N(int64(45*time.Millisecond)))
}

// wake starts what the ledger permits now, and asks again when it says.
func (p *player) wake(now time.Duration) {
	for {
		p.asked++
		c := p.estimator.Estimate(p.next.size, "")
		if at := p.ledger.When(c, start.Add(now)).Sub(start); at > now {
			asked := p.asked
			p.world.at(at, func(now time.Duration) {
				if asked == p.asked {
					p.wake(now)
				}
			})
			return
		}
		p.send(p.next, p.ledger.Start(c, start.Add(now)), now)
		if len(p.again) > 0 {
			p.next, p.again = p.again[0], p.again[1:]
		} else {
			p.next = p.task()
		}
	}
}

func (p *player) send(t task, g Grant, now time.Duration) {
	p.id++
	id := p.id
	p.world.at(now+p.network(), func(now time.Duration) {
		if !p.far.admit(now, id, t.reserve) {
			p.outcome.refuse(now)
			p.world.at(now+p.network(), func(now time.Duration) {
				p.ledger.Refuse(g, start.Add(now))
				p.again = append(p.again, t)
				p.wake(now)
			})
			return
		}
		p.outcome.admit(now, t)
		p.world.at(now+t.lasts, func(now time.Duration) {
			p.far.settle(id, t.reserve, t.settled)
			p.world.at(now+p.network(), func(now time.Duration) {
				p.ledger.Settle(g, int64(t.settled), t.usage.Read(), start.Add(now))
				p.estimator.Learn(t.size, "", t.usage)
				p.wake(now)
			})
		})
	})
}

// others is the neighbour: small requests, each tried until it is admitted, for
// a minute.
func (p *player) others(now time.Duration) {
	const step = 50 * time.Millisecond
	rate := p.neighbour(now) * p.truth().RPM
	p.owed = min(p.owed+rate*step.Minutes(), 1+rate)
	for p.owed >= 1 && p.far.admit(now, 0, 0) {
		p.owed--
	}
	p.world.at(now+step, p.others)
}

// bound plays the scenario with a scheduler that knows the limiter and every
// job, tries each five milliseconds at no cost, and plans no settlement above
// the quota.
func (s scenario) bound(far limiter, seed uint64) outcome {
	random := rand.New(rand.NewPCG(seed, 1))
	task := func() task {
		t := s.work.task(random, max(s.burndown, 1))
		t.reserve = max(t.reserve, t.settled)
		return t
	}
	w, o := world{lasts: s.lasts}, newOutcome(s.lasts)
	far.limit(s.truth())
	next, id := task(), 1
	for now := time.Millisecond; now < s.lasts; now += 5 * time.Millisecond {
		w.run(now)
		for far.admit(now, id, next.reserve) {
			t, n := next, id
			o.admit(now, t)
			w.at(now+t.lasts, func(time.Duration) { far.settle(n, t.reserve, t.settled) })
			next, id = task(), id+1
		}
	}
	return o
}
