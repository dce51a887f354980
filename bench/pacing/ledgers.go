package main

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
	"github.com/sluicehq/sluice/pacing"
)

// With -ledgers the ledgers play alone, in place of the drainer: no worker, no
// queue, no SDK, and a network that is nothing but its delay. It is some thirty
// times as fast, so that a constant of package pacing can be chosen by dozens of
// seeds; what it was chosen for, the drainer must show.

// rehearsal is a scenario's only limiter and the drainers that share it.
type rehearsal struct {
	*scenario
	track
	epoch   time.Time
	limiter *bedrocksim.Limiter
	jobs    *source
	left    int // of the jobs, where they are counted
	network lag
	random  *rand.Rand
	tally   *tally

	agenda  agenda
	planned int
}

// rehearsing is a drainer's part in it.
type rehearsing struct {
	*rehearsal
	ledger    pacing.Ledger
	estimator *pacing.Estimator
	waiting   []attempt // in the order of their jobs
	asked     int       // times that the ledger was: an older answer is void
}

// attempt is a job that was refused so many times.
type attempt struct {
	truth
	refused int
}

// The bounds of a refused job's wait, as the worker has them.
const refusedFirst, refusedLongest = time.Second, time.Minute

// happening is what will happen at a time of the run; of one time, the one that was
// planned first happens first.
type happening struct {
	at    time.Duration
	order int
	do    func(now time.Duration)
}

type agenda []happening

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].order < a[j].order
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(v any)   { *a = append(*a, v.(happening)) }
func (a *agenda) Pop() any {
	v := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return v
}

func (r *rehearsal) at(t time.Duration, do func(now time.Duration)) {
	if t < r.length {
		r.planned++
		heap.Push(&r.agenda, happening{t, r.planned, do})
	}
}

// rehearse plays a scenario of one limiter by the ledgers alone.
func rehearse(s *scenario, f form, seed uint64, best *[]*tally, series bool) cell {
	if f.name == "calendar" {
		s = s.byTheClock(offsetOf(seed))
	}
	tr := s.tracks[0]
	epoch := epochOf(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), seed)
	r := &rehearsal{
		scenario: s, track: tr, epoch: epoch,
		limiter: bedrocksim.NewLimiter(quotaOf(tr.truth), f.shape, epoch),
		jobs:    newSource(tr.work, seed, tr.stream), left: tr.count,
		network: lag{random: rand.New(rand.NewPCG(seed, 2))}, random: rand.New(rand.NewPCG(seed, 4)),
		tally: newTally(s.length),
	}
	model := tr.truth
	r.limiter.SetNeighbour(epoch, model.Neighbour)
	for _, c := range tr.changes {
		r.at(c.at, func(now time.Duration) {
			c.apply(&model)
			r.limiter.SetQuota(epoch.Add(now), quotaOf(model))
			r.limiter.SetNeighbour(epoch.Add(now), model.Neighbour)
		})
	}
	part := s.fraction
	if part == 0 {
		part = 1
	}
	var first *rehearsing
	for range max(s.drainers, 1) {
		d := &rehearsing{
			rehearsal: r, estimator: pacing.NewEstimator(tr.burndown(), tr.work.maxTokens),
			ledger: pacing.NewLedger(pacing.Limits{RPM: part * tr.rpm, TPM: part * tr.tpm, Firm: part < 1}, epoch),
		}
		if first == nil {
			first = d
		}
		r.at(tr.from, d.wake)
	}
	began := time.Now()
	for len(r.agenda) > 0 {
		h := heap.Pop(&r.agenda).(happening)
		h.do(h.at)
	}
	view := first.ledger.View(epoch.Add(s.length))
	c := cell{
		Scenario: s.id, Title: s.title, Shape: f.name, Seed: seed, Pacer: sluiceName, fails: s.fails,
		Believed: fmt.Sprintf("%s at %.2f", view.Shape, view.Share), CPU: time.Since(began).Seconds(),
	}
	if *best == nil {
		*best = []*tally{s.bound(tr, f.shape, seed, epoch)}
	}
	c.measure(&world{scenario: s, tallies: map[bedrocksim.Key]*tally{tr.key(): r.tally}}, f, *best, series)
	return c
}

// wake starts what the ledger permits now, and asks again when it says.
func (d *rehearsing) wake(now time.Duration) {
	for {
		d.asked++
		if len(d.waiting) == 0 {
			if d.count > 0 && d.left == 0 {
				return
			}
			d.left--
			d.waiting = append(d.waiting, attempt{truth: d.jobs.job()})
		}
		a := d.waiting[0]
		charge := d.estimator.Estimate(a.size(), a.tenant)
		if at := d.ledger.When(charge, d.epoch.Add(now)).Sub(d.epoch); at > now {
			asked := d.asked
			d.at(at, func(now time.Duration) {
				if asked == d.asked {
					d.wake(now)
				}
			})
			return
		}
		d.waiting = d.waiting[1:]
		d.send(a, d.ledger.Start(charge, d.epoch.Add(now)), now)
	}
}

// size is what the estimator is told of the job.
func (t truth) size() pacing.Size {
	s := pacing.Size{Text: int64(t.bytes), MaxTokens: t.maxTokens}
	if t.image {
		s.Images = 1
	}
	return s
}

// send brings the attempt to the limiter, and back what that says.
func (d *rehearsing) send(a attempt, g pacing.Grant, now time.Duration) {
	d.at(now+d.network.next(), func(now time.Duration) {
		charge, cause := d.limiter.Admit(d.epoch.Add(now), a.reserve())
		if cause != bedrocksim.Admitted {
			add(d.tally.Throttled, now, 1)
			d.at(now+d.network.next(), func(now time.Duration) { d.refused(a, g, now) })
			return
		}
		settled := a.settled(d.burndown())
		add(d.tally.Requests, now, 1)
		add(d.tally.Tokens, now, float64(settled))
		d.at(now+a.lasts, func(now time.Duration) {
			d.limiter.Settle(d.epoch.Add(now), charge, settled)
			d.at(now+d.network.next(), func(now time.Duration) {
				d.ledger.Settle(g, settled, a.input, d.epoch.Add(now))
				d.estimator.Learn(a.size(), a.tenant, pacing.Usage{Input: a.input, Output: a.output})
				d.wake(now)
			})
		})
	})
}

// refused hears a 429: the job waits, and takes its place among the waiting again.
func (d *rehearsing) refused(a attempt, g pacing.Grant, now time.Duration) {
	d.ledger.Refuse(g, d.epoch.Add(now))
	a.refused++
	wait := pacing.Backoff(a.refused-1, refusedFirst, refusedLongest, d.random.Float64())
	d.at(now+wait, func(now time.Duration) {
		place, _ := slices.BinarySearchFunc(d.waiting, a.index, func(w attempt, index int) int { return w.index - index })
		d.waiting = slices.Insert(d.waiting, place, a)
		d.wake(now)
	})
	d.wake(now)
}

// rehearsable reports whether the ledgers alone make the scenario: one limiter, whose
// quota is configured and which admits each job some time, and one stream of jobs.
func (s *scenario) rehearsable() bool {
	tr := s.tracks[0]
	return s.limiterAlone() && len(s.streams) == 1 && !s.fails && (tr.rpm > 0 || tr.tpm > 0)
}

// rehearsed leaves of the plan's scenarios those that a limiter alone makes.
func (p *plan) rehearsed() error {
	if p.told || p.real || len(p.peers) > 0 || p.pictures != "" || p.trace != "" {
		return errors.New("-ledgers goes with no other pacer, no picture and no trace")
	}
	p.scenarios = slices.DeleteFunc(p.scenarios, func(s scenario) bool { return !s.rehearsable() })
	if len(p.scenarios) == 0 {
		return errors.New("-ledgers plays none of these: only scenarios of one limiter and one stream of jobs that all succeed, to which nothing happens but changes of quota and neighbours")
	}
	return nil
}
