package main

import (
	"container/heap"
	"slices"
	"time"

	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
)

// tally is what a limiter admitted and refused, by the second.
type tally struct {
	Requests  []float64 `json:"requests"`  // admitted
	Tokens    []float64 `json:"tokens"`    // what the admitted settle, at their admission
	Throttled []float64 `json:"throttled"` // 429s
	Errors    []float64 `json:"errors"`    // other answers than 200
}

func newTally(length time.Duration) *tally {
	n := int(length / time.Second)
	return &tally{make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)}
}

// sum adds up a series between two times of the run.
func sum(series []float64, from, to time.Duration) (total float64) {
	for _, v := range series[min(len(series), int(from/time.Second)):min(len(series), int(to/time.Second))] {
		total += v
	}
	return total
}

func add(series []float64, at time.Duration, v float64) {
	if i := int(at / time.Second); i >= 0 && i < len(series) {
		series[i] += v
	}
}

// ending is an admitted request on its way to its settlement.
type ending struct {
	at      time.Time
	charge  bedrocksim.Charge
	settled int64
}

type endings []ending

func (e endings) Len() int           { return len(e) }
func (e endings) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e endings) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *endings) Push(v any)        { *e = append(*e, v.(ending)) }
func (e *endings) Pop() any {
	v := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return v
}

// bound is what an omniscient scheduler gets out of the track's limiter: the
// simulator's own, asked each millisecond, without a network, for the jobs of
// the run in their order. Of a job that settles more than it reserves it is
// lawful: it plans with the settlement, or it would overshoot the quota several
// times over while only reservations count.
func (s *scenario) bound(tr track, shape bedrocksim.Shape, seed uint64, epoch time.Time) *tally {
	m := tr.truth
	m.Shape = shape
	burndown := max(m.Burndown, 1)
	limiter := bedrocksim.NewLimiter(quotaOf(m), shape, epoch)
	limiter.SetNeighbour(epoch, m.Neighbour)
	changes := slices.Clone(tr.changes)
	out := newTally(s.length)
	jobs := newSource(tr.work, seed, tr.stream)
	var flying endings
	wait := tr.from
	next := jobs.job()
	left := tr.count
	for at := time.Duration(0); at < s.length; at += time.Millisecond {
		now := epoch.Add(at)
		for len(changes) > 0 && changes[0].at <= at {
			changes[0].apply(&m)
			limiter.SetQuota(now, quotaOf(m))
			limiter.SetNeighbour(now, m.Neighbour)
			changes = changes[1:]
		}
		for len(flying) > 0 && !flying[0].at.After(now) {
			e := heap.Pop(&flying).(ending)
			limiter.Settle(e.at, e.charge, e.settled)
		}
		for at >= wait && !gone(m) && (tr.count == 0 || left > 0) {
			settled := next.settled(burndown)
			reserve := max(next.reserve(), settled)
			if float64(reserve) > m.TPM && m.TPM > 0 && wholeMinutes(shape) {
				next = jobs.job() // no such minute admits it
				left--
				continue
			}
			charge, cause := limiter.Admit(now, reserve)
			if cause != bedrocksim.Admitted {
				break
			}
			add(out.Requests, at, 1)
			add(out.Tokens, at, float64(settled))
			heap.Push(&flying, ending{now.Add(next.lasts), charge, settled})
			next = jobs.job()
			left--
		}
	}
	return out
}

// gone reports whether the model answers nobody.
func gone(m bedrocksim.Model) bool {
	for _, f := range m.Faults {
		if f.Rate == 1 && f.Kind != bedrocksim.Slow {
			return true
		}
	}
	return m.TPD > 0
}

func quotaOf(m bedrocksim.Model) bedrocksim.Quota {
	return bedrocksim.Quota{RPM: m.RPM, TPM: m.TPM}
}

// wholeMinutes reports whether the shape is one of minutes, which never admit
// what is larger than they are.
func wholeMinutes(s bedrocksim.Shape) bool {
	text, err := s.MarshalText()
	return err == nil && (string(text) == "rolling" || string(text) == "calendar")
}

// ceiling is the analytic bound from a time to a time: the quota that others
// leave, and what the bucket may hold when the time begins.
func (s *scenario) ceiling(tr track, hold time.Duration, from, to time.Duration) (total float64) {
	m := tr.truth
	last := from
	step := func(until time.Duration) {
		until = min(max(until, last), to)
		part := 1.0
		if gone(m) {
			part = 0
		}
		if n := m.Neighbour; n.Fraction > 0 {
			taken := n.Fraction
			if n.On > 0 {
				taken *= float64(n.On) / float64(n.On+n.Off)
			}
			part *= 1 - taken
		}
		total += part * tr.rate(m) * (until - last).Minutes()
		last = until
	}
	for _, c := range tr.changes {
		step(c.at)
		c.apply(&m)
	}
	step(to)
	return total + tr.rate(tr.truth)*hold.Minutes()
}

// rate is the quota per minute in the dimension that binds.
func (tr track) rate(m bedrocksim.Model) float64 {
	if m.TPM > 0 {
		return m.TPM
	}
	return m.RPM
}

// series is the tally's in the dimension that binds.
func (tr track) series(t *tally) []float64 {
	if tr.truth.TPM > 0 {
		return t.Tokens
	}
	return t.Requests
}
