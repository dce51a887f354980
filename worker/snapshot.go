package worker

import (
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/pacing"
)

// Snapshot is what a worker has done and is doing: the one value that metrics,
// status, progress and reports are made of. Counts are totals since the start.
type Snapshot struct {
	At       time.Time
	Started  time.Time
	Models   []ModelSnapshot
	Sources  []SourceSnapshot
	InFlight int // invocations
	Held     int // deliveries not yet started
	Released int // released here and not yet due

	OldestJob time.Duration // age of the oldest job held, or released here and not yet due
	SlotBound time.Duration // the cap on invocations, not the quota, was the limit

	Receives       Histogram // receives per job at its end
	Buried         map[job.Reason]int64
	Releases       int64
	Renewals       int64
	LeasesLost     int64
	ResultErrors   int64
	CopiesWaiting  int64
	CopiesLost     int64
	PaidTwice      int64
	Cancelled      int64 // invocations, by the stop
	Unbounded      int64 // jobs without max_tokens that have ended
	BytesHeld      int64
	Suspended      bool
	NotReadyReason string
}

// SourceSnapshot is one job queue.
type SourceSnapshot struct {
	Name     string
	Received int64
	// Mix is the part of each model in the last messages; "" is for those of no
	// configured model.
	Mix map[string]float64
}

// ModelSnapshot is one model.
type ModelSnapshot struct {
	Alias    string
	Waiting  int // in line for a grant
	Large    int // released until a minute in which nothing else starts
	Held     int // received and not yet started, waiting ones included
	InFlight int
	NextTry  time.Time     // when the first of the large ones comes back
	Each     time.Duration // what one average job takes at the present pace, 0 if unlimited

	Invocations int64 // answered
	Throttles   int64
	Capacity    int64 // theirs: 503, 5xx, 424, 408, network
	QuotaTokens int64
	Succeeded   int64
	Expired     int64
	Fallbacks   int64 // jobs of this model that another one answered
	Failed      map[job.Reason]int64
	QuotaBound  time.Duration // backlog, and the quota was the limit
	QueueWait   Histogram     // seconds from submission to the last start
	Latency     Histogram     // seconds from start to answer
	Routes      []RouteSnapshot
}

// RouteSnapshot is one route of a model.
type RouteSnapshot struct {
	job.Route
	Quota       string
	Limits      pacing.Limits
	Gate        string
	GateCode    string    // of the failure that closed it; "" while it is open, as the two below
	GateRequest string    // that failure's request ID
	GateSince   time.Time // when it was closed
	InFlight    int
	Invocations int64
	Reserved    int64 // tokens
	Settled     int64 // tokens
	Capacity    int64
	Latency     Histogram        // seconds from start to answer
	Throttles   map[string]int64 // by cause: "requests", "tokens", "day", ""
	Ledger      pacing.View
}

// stats counts what no part of the dispatcher's state does.
type stats struct {
	started time.Time
	released, renewed, lost,
	resultErrors, paidTwice, cancelled, copiesWaiting, copiesLost atomic.Int64

	mu       sync.Mutex
	buried   map[job.Reason]int64
	received Histogram
	sources  []int64
}

type modelCounts struct {
	succeeded, expired, fallbacks int64
	failed                        map[job.Reason]int64
	quotaBound                    time.Duration
	queueWait                     Histogram
}

type routeCounts struct {
	capacity, reserved, settled int64
	throttles                   map[string]int64
	latency                     Histogram // of the answered ones
}

func (s *stats) start(o Options) {
	s.started = time.Now()
	s.buried = map[job.Reason]int64{}
	s.sources = make([]int64, len(o.Sources))
}

func (s *stats) bury(r job.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buried[r]++
}

func (s *stats) receives(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received.Observe(float64(n))
}

func (s *stats) receive(source, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources[source] += int64(n)
}

// ended counts a result under the model that was asked for, where that could be
// read; waits and latencies under the one that answered.
func (d *dispatcher) ended(t *task, r job.Result) {
	if len(t.chain) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if size := t.chain[0].size; size.MaxTokens == 0 && !size.NoOutput {
		d.unbounded++
	}
	asked := &t.asked().counts
	switch r.Status {
	case job.Succeeded:
		answered := d.models[r.Model]
		if r.Model != t.asked().Alias {
			asked.fallbacks++
		}
		asked.succeeded++
		answered.counts.queueWait.Observe(t.started.Sub(t.submitted).Seconds())
	case job.Expired:
		asked.expired++
	default:
		increment(&asked.failed, r.Error.Reason)
	}
}

func increment[K comparable](m *map[K]int64, k K) {
	if *m == nil {
		*m = map[K]int64{}
	}
	(*m)[k]++
}

// Snapshot returns what the worker has done and is doing.
func (w *Worker) Snapshot() Snapshot {
	now := time.Now()
	s := Snapshot{At: now, Started: w.stats.started}
	if err := w.Ready(); err != nil {
		s.NotReadyReason = err.Error()
	}

	d := w.disp
	d.mu.Lock()
	d.pump(now) // brings the bound times up to now
	s.InFlight, s.Suspended = d.inFlight, d.suspended
	s.SlotBound, s.Unbounded = d.slotBound, d.unbounded
	oldest := now
	large, next := map[*model]int{}, map[*model]time.Time{}
	for i := range d.released {
		s.Released += d.released[i].due(now)
		for _, r := range d.released[i] {
			oldest = earlier(oldest, r.submitted)
			if r.large {
				if large[r.model]++; large[r.model] == 1 || r.due.Before(next[r.model]) {
					next[r.model] = r.due
				}
			}
		}
	}
	for _, m := range d.order {
		ms := m.snapshot(now)
		ms.Large, ms.NextTry = large[m], next[m]
		s.Held += ms.Held
		s.Models = append(s.Models, ms)
	}
	d.mu.Unlock()
	s.OldestJob = now.Sub(earlier(oldest, w.jobs.oldest(now)))

	w.stats.mu.Lock()
	s.Receives = w.stats.received.clone()
	s.Buried = maps.Clone(w.stats.buried)
	for i, src := range w.o.Sources {
		s.Sources = append(s.Sources, SourceSnapshot{Name: src.Name, Received: w.stats.sources[i], Mix: w.mixes[i].parts()})
	}
	w.stats.mu.Unlock()

	s.Releases, s.Renewals, s.LeasesLost = w.stats.released.Load(), w.stats.renewed.Load(), w.stats.lost.Load()
	s.ResultErrors, s.PaidTwice, s.Cancelled = w.stats.resultErrors.Load(), w.stats.paidTwice.Load(), w.stats.cancelled.Load()
	s.CopiesWaiting, s.CopiesLost = w.stats.copiesWaiting.Load(), w.stats.copiesLost.Load()
	s.BytesHeld = w.room.held()
	return s
}

func (m *model) snapshot(now time.Time) ModelSnapshot {
	c := &m.counts
	each, _ := m.each()
	s := ModelSnapshot{
		Alias: m.Alias, Waiting: m.waiting, InFlight: m.inFlight, Each: each,
		Succeeded: c.succeeded, Expired: c.expired, Fallbacks: c.fallbacks, Failed: maps.Clone(c.failed),
		QuotaBound: c.quotaBound, QueueWait: c.queueWait.clone(),
	}
	for _, n := range m.held {
		s.Held += n
	}
	for i, r := range m.routes {
		c := &r.counts
		s.Routes = append(s.Routes, RouteSnapshot{
			Route: r.at, Quota: r.quota.name, Limits: m.ModelOptions.Routes[i].Limits, Gate: r.Gate.Cause().String(),
			GateCode: r.closed.code, GateRequest: r.closed.requestID, GateSince: r.closed.since,
			InFlight: r.InFlight(), Invocations: int64(c.latency.N), Reserved: c.reserved, Settled: c.settled, Capacity: c.capacity,
			Throttles: maps.Clone(c.throttles), Latency: c.latency.clone(), Ledger: r.Ledger.View(now),
		})
		s.Invocations += int64(c.latency.N)
		s.QuotaTokens += c.settled
		s.Capacity += c.capacity
		for _, n := range c.throttles {
			s.Throttles += n
		}
		s.Latency.merge(c.latency)
	}
	return s
}

// Histogram counts observations in buckets that grow by a tenth: exact enough
// for any percentile, small enough to publish. The zero value is empty.
type Histogram struct {
	counts map[int]uint64
	N      uint64
	Sum    float64
}

// growth is the ratio of two neighbouring buckets.
const growth = 1.1

// Observe counts one observation.
func (h *Histogram) Observe(v float64) {
	if h.counts == nil {
		h.counts = map[int]uint64{}
	}
	h.counts[int(math.Round(math.Log(max(v, 1e-4))/math.Log(growth)))]++
	h.N++
	h.Sum += v
}

func (h *Histogram) merge(other Histogram) {
	if h.counts == nil {
		h.counts = map[int]uint64{}
	}
	for b, n := range other.counts {
		h.counts[b] += n
	}
	h.N += other.N
	h.Sum += other.Sum
}

func (h Histogram) clone() Histogram {
	h.counts = maps.Clone(h.counts)
	return h
}

// Buckets calls f with each value observed, to within 5 %, and how often.
func (h Histogram) Buckets(f func(value float64, count uint64)) {
	for b, n := range h.counts {
		f(math.Pow(growth, float64(b)), n)
	}
}

// Quantile returns the value, to within 5 %, below which the part q (0 to 1) of
// what was observed lies; 0 of nothing.
func (h Histogram) Quantile(q float64) float64 {
	rank := max(1, uint64(math.Ceil(q*float64(h.N))))
	for _, b := range slices.Sorted(maps.Keys(h.counts)) {
		if n := h.counts[b]; n < rank {
			rank -= n
			continue
		}
		return math.Pow(growth, float64(b))
	}
	return 0
}
