package main

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicehq/sluice/worker"
)

// cell is one run: a scenario on a shape with a seed, by Sluice or a peer.
type cell struct {
	Scenario string  `json:"scenario"`
	Title    string  `json:"title"`
	Shape    string  `json:"shape"`
	Seed     uint64  `json:"seed"`
	Pacer    string  `json:"pacer"`
	Rows     []row   `json:"rows"`
	Settles  []took  `json:"settles,omitempty"`
	Lost     int     `json:"lost"`
	Twice    int64   `json:"twice"`
	Failed   int     `json:"failed"` // results that are no success
	Receives float64 `json:"receives_per_job,omitempty"`
	Believed string  `json:"believed,omitempty"` // the shape, at the end
	// FirstSecond is what was admitted in the second after the backlog came, and
	// FirstMost what the shape that was believed by then allows, no more than a
	// second's worth above its bucket.
	FirstSecond float64  `json:"first_second,omitempty"`
	FirstMost   float64  `json:"first_most,omitempty"`
	CPU         float64  `json:"seconds"` // of real time
	Error       string   `json:"error,omitempty"`
	Series      []*tally `json:"series,omitempty"` // by track; with the bound's after it
	fails       bool
}

// row is a phase of a run on one track.
type row struct {
	Track     string  `json:"track,omitempty"`
	Phase     string  `json:"phase,omitempty"`
	Got       float64 `json:"got"` // requests, or settled tokens, a minute
	Bound     float64 `json:"bound"`
	Ceiling   float64 `json:"ceiling"`
	Quota     float64 `json:"quota"`   // that others leave
	Goodput   float64 `json:"goodput"` // part of the bound
	Successes float64 `json:"successes"`
	Throttles float64 `json:"throttles"`
	PerMille  float64 `json:"throttles_per_1000"`
	Errors    float64 `json:"errors,omitempty"`
	want      target
}

// took is how long a settling took.
type took struct {
	Name   string  `json:"name"`
	Took   float64 `json:"seconds"` // -1: it never did
	Within float64 `json:"within"`
}

// pacer is what a scenario is played with: Sluice, or a peer.
type pacer struct {
	name string
	// queued says that it takes its jobs from the queues; others draw them.
	queued bool
	// start begins to work in the world; the function that it returns ends that.
	start func(*world, form) (end func() error, err error)
}

const sluiceName = "sluice"

func sluice() pacer {
	return pacer{sluiceName, true, func(w *world, _ form) (func() error, error) {
		for range max(w.drainers, 1) {
			if err := w.drain(); err != nil {
				return nil, err
			}
		}
		return w.endDrainers, nil
	}}
}

// play plays a scenario in virtual time. The bound, which is the same for every
// pacer, is made where best is nil.
func play(t *testing.T, s scenario, f form, seed uint64, p pacer, best *[]*tally, series bool) cell {
	c := cell{Scenario: s.id, Title: s.title, Shape: f.name, Seed: seed, Pacer: p.name, fails: s.fails}
	began := time.Now()
	synctest.Test(t, func(*testing.T) { c.live(&s, f, p, best, series, false) })
	c.CPU = time.Since(began).Seconds()
	return c
}

// live plays the cell's scenario by the clock that there is: in a bubble, the
// virtual one.
func (c *cell) live(s *scenario, f form, p pacer, best *[]*tally, series, realtime bool) {
	if f.name == "calendar" {
		offset := offsetOf(c.Seed)
		if realtime {
			offset = time.Since(time.Now().Truncate(time.Minute))
		}
		s = s.byTheClock(offset)
	}
	w, err := newWorld(s, f, c.Seed, realtime)
	if err == nil {
		err = w.play(p, f)
	}
	if err == nil {
		err = c.inspect(w, p)
	}
	if err != nil {
		c.Error = err.Error()
	}
	w.aws.Close()
	if *best == nil || realtime { // the minutes of real time are others
		*best = nil
		for _, tr := range s.tracks {
			*best = append(*best, s.bound(tr, f.shape, c.Seed, w.epoch))
		}
	}
	c.measure(w, f, *best, series)
}

// inspect reads what a run left behind.
func (c *cell) inspect(w *world, p pacer) (err error) {
	for _, st := range w.aws.Bedrock().Stats() {
		c.Twice += st.Repeats
	}
	if !p.queued {
		return nil
	}
	c.Failed = w.store.count("failed") + w.store.count("expired")
	var received worker.Histogram
	for _, p := range w.processes {
		snapshot := p.Snapshot()
		received.Sum += snapshot.Receives.Sum
		received.N += snapshot.Receives.N
		for _, m := range snapshot.Models {
			for _, r := range m.Routes {
				c.Believed = fmt.Sprintf("%s at %.2f", r.Ledger.Shape, r.Ledger.Share)
			}
		}
	}
	if received.N > 0 {
		c.Receives = received.Sum / float64(received.N)
	}
	c.Lost, err = w.unsettled()
	return err
}

// measure compares what was admitted with the bound.
func (c *cell) measure(w *world, f form, best []*tally, series bool) {
	for i, tr := range w.tracks {
		got := w.tallies[tr.key()]
		if series {
			c.Series = append(c.Series, got, best[i])
		}
		for _, p := range w.phases {
			if p.track != "" && p.track != tr.name {
				continue
			}
			r := row{
				Track: tr.name, Phase: p.name,
				Got:       sum(tr.series(got), p.from, p.to),
				Bound:     sum(tr.series(best[i]), p.from, p.to),
				Ceiling:   w.ceiling(tr, f.hold, p.from, p.to),
				Quota:     w.ceiling(tr, 0, p.from, p.to),
				Successes: sum(got.Requests, p.from, p.to),
				Throttles: sum(got.Throttled, p.from, p.to),
				Errors:    sum(got.Errors, p.from, p.to),
			}
			if p.left {
				r.Bound = r.Quota
			}
			if p.want != nil {
				r.want = p.want(f)
			}
			c.Rows = append(c.Rows, r)
		}
	}
	if w.pool {
		c.Rows = pooled(c.Rows, len(w.phases))
	}
	for i := range c.Rows {
		c.Rows[i].finish(w.phases)
	}
	tr := w.tracks[0]
	mine := tr.series(w.tallies[tr.key()])
	for _, st := range w.settles {
		c.Settles = append(c.Settles, settle(w.scenario, tr, st, mine, f))
	}
	if tr.count > 0 {
		c.FirstSecond = sum(mine, tr.from, tr.from+time.Second)
	}
	if w.learned > 0 {
		c.FirstMost = math.Ceil(tr.rate(tr.truth) * (w.learned + time.Second).Minutes())
	}
}

// pooled sums the rows of all tracks by phase.
func pooled(rows []row, phases int) []row {
	all := slices.Clone(rows[:phases])
	for i := range all {
		all[i].Track = ""
	}
	for i, r := range rows[phases:] {
		to := &all[i%phases]
		to.Got, to.Bound, to.Ceiling, to.Quota = to.Got+r.Got, to.Bound+r.Bound, to.Ceiling+r.Ceiling, to.Quota+r.Quota
		to.Successes, to.Throttles, to.Errors = to.Successes+r.Successes, to.Throttles+r.Throttles, to.Errors+r.Errors
	}
	return all
}

// finish makes rates of sums.
func (r *row) finish(phases []phase) {
	if r.Bound > 0 {
		r.Goodput = r.Got / r.Bound
	}
	r.PerMille = 1000 * r.Throttles / max(r.Successes, 1)
	for _, p := range phases {
		if p.name == r.Phase && (p.track == "" || p.track == r.Track) {
			minutes := (p.to - p.from).Minutes()
			r.Got, r.Bound, r.Ceiling, r.Quota = r.Got/minutes, r.Bound/minutes, r.Ceiling/minutes, r.Quota/minutes
			return
		}
	}
}

// settle finds when the mean over the next half minute is at the level of what
// the quota leaves; over the next minute where the limiter counts minutes, in
// which the order of starts is anybody's.
func settle(s *scenario, tr track, st settling, mine []float64, f form) took {
	over := 30 * time.Second
	if f.minutes {
		over = time.Minute
	}
	out := took{st.name, -1, st.within.Seconds()}
	for after := time.Duration(0); st.after+after+over <= s.length; after += time.Second {
		from, to := st.after+after, st.after+after+over
		if sum(mine, from, to) >= st.level*s.ceiling(tr, 0, from, to) {
			out.Took = after.Seconds()
			break
		}
	}
	return out
}

// median returns the cell of the seeds whose first row's goodput is the median,
// with every figure the median of its own.
func median(cells []cell) cell {
	mid := func(of func(*cell) float64) float64 {
		var vs []float64
		for i := range cells {
			vs = append(vs, of(&cells[i]))
		}
		slices.Sort(vs)
		return vs[len(vs)/2]
	}
	m := cells[0]
	m.Rows, m.Settles = slices.Clone(m.Rows), slices.Clone(m.Settles)
	for i := range m.Rows {
		m.Rows[i].Goodput = mid(func(c *cell) float64 { return c.Rows[i].Goodput })
		m.Rows[i].PerMille = mid(func(c *cell) float64 { return c.Rows[i].PerMille })
		m.Rows[i].Throttles = mid(func(c *cell) float64 { return c.Rows[i].Throttles })
		m.Rows[i].Successes = mid(func(c *cell) float64 { return c.Rows[i].Successes })
	}
	for i := range m.Settles {
		m.Settles[i].Took = mid(func(c *cell) float64 { return c.Settles[i].Took })
	}
	m.Receives = mid(func(c *cell) float64 { return c.Receives })
	m.FirstSecond = mid(func(c *cell) float64 { return c.FirstSecond })
	m.FirstMost = mid(func(c *cell) float64 { return c.FirstMost })
	for _, c := range cells[1:] {
		m.Lost, m.Twice, m.Failed = m.Lost+c.Lost, m.Twice+c.Twice, m.Failed+c.Failed
		m.CPU += c.CPU
		if m.Error == "" {
			m.Error = c.Error
		}
	}
	return m
}
