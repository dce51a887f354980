package main

import (
	"bufio"
	"container/heap"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
	"github.com/sluicehq/sluice/pacing"
)

// record is what a trace tells of one ledger.
type record struct {
	ledger    string
	limits    pacing.Limits
	jobs      []recorded // the answered ones, by submission
	refused   int
	tokens    int64
	from, to  time.Time
	requested map[uint64]pacing.Event // started, and not ended yet
}

// recorded is a job as its trace has it. The input is the estimate, since only
// settlements are told by AWS.
type recorded struct {
	submitted time.Time
	charge    pacing.Charge
	settled   int64
	lasts     time.Duration
	tries     int // in the replay, that were refused
}

// readTrace reads what SLUICE_PACING_TRACE wrote.
func readTrace(path string) (records []*record, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	by := map[string]*record{}
	lines := bufio.NewScanner(f)
	var broken error
	for n := 1; lines.Scan(); n++ {
		var e pacing.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil && broken == nil {
			// A drainer that was killed leaves half a line: the last, or one
			// before another drainer's beginning.
			broken = fmt.Errorf("%s, line %d: %w", path, n, err)
			continue
		}
		if broken != nil && e.What != pacing.Begun {
			return nil, broken
		}
		broken = nil
		r := by[e.Ledger]
		switch {
		case r == nil && e.What != pacing.Begun:
			return nil, fmt.Errorf("%s, line %d: what: %q of ledger %q, which has not begun in this trace", path, n, e.What, e.Ledger)
		case r == nil:
			r = &record{ledger: e.Ledger, from: e.At}
			by[e.Ledger] = r
		}
		r.add(e)
	}
	if len(by) == 0 && broken != nil {
		return nil, broken
	}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		r := by[name]
		slices.SortStableFunc(r.jobs, func(a, b recorded) int { return a.submitted.Compare(b.submitted) })
		records = append(records, r)
	}
	return records, lines.Err()
}

func (r *record) add(e pacing.Event) {
	r.to = e.At
	switch e.What {
	case pacing.Begun: // what an earlier drainer had in flight has no end here
		r.limits, r.requested = pacing.Limits{RPM: e.RPM, TPM: e.TPM}, map[uint64]pacing.Event{}
		return
	case pacing.Started:
		r.requested[e.ID] = e
		return
	case pacing.Refused.String():
		r.refused++
	case pacing.Answered.String():
		s, ok := r.requested[e.ID]
		if !ok {
			return // it began before a gap
		}
		r.tokens += e.Settled
		r.jobs = append(r.jobs, recorded{
			submitted: s.Submitted, settled: e.Settled, lasts: e.At.Sub(s.At),
			charge: pacing.Charge{Reserve: s.Reserve, Expect: s.Expect, Input: s.Input, Doubt: s.Doubt},
		})
	}
	delete(r.requested, e.ID)
}

// triesMost ends what a limiter never admits: a job larger than its minute.
const triesMost = 50

// replayed is what became of the recorded jobs.
type replayed struct {
	refused, givenUp int
	took             time.Duration
}

// replay has a new ledger start the recorded jobs, as they were submitted, on a
// limiter of the shape behind the bench's network.
func (r *record) replay(shape bedrocksim.Shape, seed uint64) (out replayed) {
	var (
		limiter = bedrocksim.NewLimiter(bedrocksim.Quota{RPM: r.limits.RPM, TPM: r.limits.TPM}, shape, r.from)
		ledger  = pacing.NewLedger(r.limits, r.from)
		random  = rand.New(rand.NewPCG(seed, 2))
		network = lag{random: random}
		waiting schedule // jobs, by when they may be tried
		coming  schedule // what happens to requests under way
		now     = r.from
	)
	for _, job := range r.jobs {
		waiting.add(later(job.submitted, r.from), job, nil)
	}
	start := func(job recorded) {
		grant, arrives := ledger.Start(job.charge, now), now.Add(network.next())
		coming.add(arrives, job, func() {
			charge, cause := limiter.Admit(arrives, job.charge.Reserve)
			if cause == bedrocksim.Admitted {
				ends := arrives.Add(job.lasts)
				coming.add(ends, job, func() { limiter.Settle(ends, charge, job.settled) })
				coming.add(ends.Add(network.next()), job, func() { ledger.Settle(grant, job.settled, 0, now) })
				return
			}
			coming.add(arrives.Add(network.next()), job, func() {
				ledger.Refuse(grant, now)
				out.refused++
				if job.tries++; job.tries == triesMost {
					out.givenUp++
					return
				}
				waiting.add(now.Add(pacing.Backoff(job.tries, time.Second, time.Minute, random.Float64())), job, nil)
			})
		})
	}
	for len(waiting)+len(coming) > 0 {
		next := now.Add(time.Hour)
		if len(waiting) > 0 {
			first := waiting[0]
			next = first.at
			if !next.After(now) {
				if next = ledger.When(first.job.charge, now); !next.After(now) {
					heap.Pop(&waiting)
					start(first.job)
					continue
				}
			}
		}
		if len(coming) > 0 && !coming[0].at.After(next) {
			e := heap.Pop(&coming).(event)
			now = later(now, e.at)
			e.do()
			continue
		}
		now = next
	}
	out.took = now.Sub(r.from)
	return out
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// schedule is a heap of what comes, by time.
type schedule []event

type event struct {
	at  time.Time
	job recorded
	do  func()
}

func (s *schedule) add(at time.Time, job recorded, do func()) { heap.Push(s, event{at, job, do}) }

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s schedule) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *schedule) Push(v any)        { *s = append(*s, v.(event)) }
func (s *schedule) Pop() any {
	v := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return v
}

// replay prints what was recorded, and what comes of it on each shape.
func (p plan) replay(out io.Writer) error {
	records, err := readTrace(p.trace)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%-40s %-11s %7s %9s %13s %13s %6s %9s\n", "ledger", "limiter", "jobs", "minutes", "requests/min", "tokens/min", "429s", "per 1,000")
	for _, r := range records {
		line := func(limiter string, took time.Duration, refused, givenUp int) {
			jobs, minutes := float64(len(r.jobs)-givenUp), took.Minutes()
			fmt.Fprintf(out, "%-40s %-11s %7.0f %9.1f %13.1f %13.0f %6d %9.1f\n", r.ledger, limiter,
				jobs, minutes, jobs/minutes, float64(r.tokens)/minutes, refused, 1000*float64(refused)/max(jobs, 1))
		}
		line("recorded", r.to.Sub(r.from), r.refused, 0)
		for _, f := range p.forms {
			x := r.replay(f.shape, 1)
			line(f.name, x.took, x.refused, x.givenUp)
		}
	}
	return nil
}
