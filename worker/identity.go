package worker

import (
	"container/list"
	"hash/maphash"
	"sync"
	"time"

	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/pacing"
)

// maxRecords bounds the memory of jobs that were released after a failure. The
// oldest are forgotten: such a job gets its attempts again.
const maxRecords = 50_000

// registry knows which identities are in flight in this process, and what
// happened before to those that were released.
type registry struct {
	seed maphash.Seed

	mu   sync.Mutex
	live map[job.Identity]*task
	past map[job.Identity]*list.Element // of *record
	age  list.List                      // of *record, the oldest first
}

// record is what must not be forgotten of a job while it is on its way back. It
// belongs to the task that carries it.
type record struct {
	identity job.Identity
	throttles,
	unavailable int // in a row: exponents of the backoff
	attempts, timeouts, tries int
	firstTry                  time.Time
	failures                  []time.Time // own ones of the last minute
	released                  int         // by this process, of those that count for a renewal
	refusals                  map[*route]refusal
	oversize                  int // throttles with the route otherwise empty
	struck                    map[*model]bool
}

// refusal counts the refusals of a job for credentials or access on a route that
// then answered another job: what is at fault is that job.
type refusal struct {
	confirmed int
	successes uint64 // of the route, at the last refusal
	at        time.Time
}

func (r *registry) start() {
	r.seed = maphash.MakeSeed()
	r.live = map[job.Identity]*task{}
	r.past = map[job.Identity]*list.Element{}
}

// claim makes the task the one in flight for its identity, or returns the one
// that is.
func (r *registry) claim(t *task) (first *task) {
	id := t.claim.Identity
	t.hash = maphash.Comparable(r.seed, id) | 1 // 0 means no job
	r.mu.Lock()
	defer r.mu.Unlock()
	if first := r.live[id]; first != nil {
		return first
	}
	r.live[id] = t
	t.record = &record{identity: id, attempts: t.d.Trail.Attempts}
	if e := r.past[id]; e != nil {
		t.record = e.Value.(*record)
		r.age.Remove(e)
		delete(r.past, id)
	}
	return nil
}

// yield ends the claim. What happened is kept if the job will come back.
func (r *registry) yield(t *task, comesBack bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := t.claim.Identity
	delete(r.live, id)
	if !comesBack || !t.record.worth() {
		return
	}
	r.past[id] = r.age.PushBack(t.record)
	if r.age.Len() > maxRecords {
		e := r.age.Front()
		r.age.Remove(e)
		delete(r.past, e.Value.(*record).identity)
	}
}

// oldest is when the oldest job in flight was submitted, or now.
func (r *registry) oldest(now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.live {
		now = earlier(now, t.submitted)
	}
	return now
}

func (r *record) worth() bool {
	return r.throttles+r.unavailable+r.tries+r.oversize+r.released+len(r.refusals)+len(r.struck) > 0
}

const (
	// maxAttempts and maxTimeouts end a job on a route that answers others: a job
	// that makes the model fail, or never finish.
	maxAttempts = 5
	maxTimeouts = 2
	// maxTries over at least triesOver end it on a route of which nothing good is
	// known either.
	maxTries  = 20
	triesOver = 6 * time.Hour
	// maxRefusals, each followed by another job's success, reject a job.
	maxRefusals = 3
	// refusalCounts is how long a refused job is no probe of a stopped route.
	// Others go first; but where there are no others, somebody has to.
	refusalCounts = 5 * time.Minute
)

// fail counts an unavailable answer and says whether the job is at its end on
// this model.
func (r *record) fail(route *pacing.Route, timeout bool, now time.Time) (over bool) {
	r.tries++
	r.unavailable++
	if r.firstTry.IsZero() {
		r.firstTry = now
	}
	for len(r.failures) > 0 && now.Sub(r.failures[0]) >= time.Minute {
		r.failures = r.failures[1:]
	}
	r.failures = append(r.failures, now)
	if route.Healthy(len(r.failures), now) {
		r.attempts++
		if timeout {
			r.timeouts++
		}
	}
	return r.attempts >= maxAttempts || r.timeouts >= maxTimeouts ||
		r.tries >= maxTries && now.Sub(r.firstTry) >= triesOver
}

// again forgets what a model did to the job: the next one starts afresh.
func (r *record) again() {
	r.attempts, r.timeouts, r.tries, r.unavailable, r.oversize = 0, 0, 0, 0, 0
	r.firstTry = time.Time{}
}

// refuse counts a refusal on the route, which has answered so many others by
// now, and says whether it has refused this job often enough.
func (r *record) refuse(on *route, successes uint64, now time.Time) (over bool) {
	if r.refusals == nil {
		r.refusals = map[*route]refusal{}
	}
	f, again := r.refusals[on]
	if again && successes > f.successes {
		f.confirmed++
	}
	f.successes, f.at = successes, now
	r.refusals[on] = f
	return f.confirmed >= maxRefusals
}

// refusedOn says whether the route has refused the job of late.
func (r *record) refusedOn(on *route, now time.Time) bool {
	f, yes := r.refusals[on]
	return yes && now.Sub(f.at) < refusalCounts
}

// strike takes a model off the job's chain.
func (r *record) strike(m *model) {
	if r.struck == nil {
		r.struck = map[*model]bool{}
	}
	r.struck[m] = true
	r.again()
}
