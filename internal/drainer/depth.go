package drainer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sluicehq/sluice/internal/queue"
	"github.com/sluicehq/sluice/pacing"
	"github.com/sluicehq/sluice/worker"
)

// depths is how much the job queues hold, as SQS last said.
type depths struct {
	mu    sync.Mutex
	known bool
	by    []queue.Attributes
}

// all returns the attributes of each queue, or nothing while one is unknown.
func (d *depths) all() []queue.Attributes {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.known {
		return nil
	}
	return slices.Clone(d.by)
}

// total adds up the jobs in all queues, delivered ones included.
func (d *depths) total() (jobs int, known bool) {
	all := d.all()
	for _, a := range all {
		jobs += depth(a)
	}
	return jobs, all != nil
}

func depth(a queue.Attributes) int { return a.Visible + a.Delayed + a.InFlight }

// measureDepths asks SQS.
func (d *Drainer) measureDepths(ctx context.Context) error {
	var errs []error
	by := make([]queue.Attributes, len(d.sources))
	for i, q := range d.sources {
		var err error
		by[i], err = q.Describe(ctx)
		errs = append(errs, err)
	}
	err := errors.Join(errs...)
	d.depths.mu.Lock()
	defer d.depths.mu.Unlock()
	if d.depths.known = err == nil; d.depths.known {
		d.depths.by = by
	}
	return err
}

// watchDepths keeps them a metrics period old at most. What fails is told by
// readiness already: receiving from the same queue fails too.
func (d *Drainer) watchDepths(ctx context.Context) {
	tick := time.NewTicker(d.cfg.MetricsPeriod)
	defer tick.Stop()
	for {
		_ = d.measureDepths(ctx) // an unknown depth publishes no DrainSeconds
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// drainLongest bounds the estimate where nothing moves.
const drainLongest = 365 * 24 * time.Hour

// drainTime estimates how long the backlog takes at the present pace: that of
// the slowest model, taking what is not held here (it may be released, and so in
// flight to SQS) to be of its queue's last mix.
func (d *Drainer) drainTime(s worker.Snapshot) (time.Duration, bool) {
	total, known := d.depths.total()
	if !known {
		return 0, false
	}
	elsewhere := max(0, float64(total-s.Held-s.InFlight)) / float64(max(total, 1))
	jobs := map[string]float64{}
	for i, a := range d.depths.all() {
		if i < len(s.Sources) {
			for model, part := range s.Sources[i].Mix {
				jobs[d.answering(s, model)] += part * float64(depth(a)) * elsewhere
			}
		}
	}
	var longest time.Duration
	for _, m := range s.Models {
		longest = max(longest, time.Duration(min((jobs[m.Alias]+float64(m.Held))*float64(m.Each), float64(drainLongest))))
	}
	return longest, true
}

// answering is the model that answers an alias's jobs now: itself, or while it
// is closed its first fallback that is open.
func (d *Drainer) answering(s worker.Snapshot, alias string) string {
	for _, name := range append([]string{alias}, d.cfg.Models[alias].Fallback...) {
		for _, m := range s.Models {
			if m.Alias == name && slices.ContainsFunc(m.Routes, func(r worker.RouteSnapshot) bool { return r.Gate == pacing.Open.String() }) {
				return name
			}
		}
	}
	return alias
}

// Empty waits until the queues have shown nothing visible, delayed or in flight
// for the whole of quiet. SQS's counts are approximate, hence a while and not a
// moment. Nothing counts as empty before the preflight has passed. Its error is
// ctx's.
func (d *Drainer) Empty(ctx context.Context, quiet time.Duration) error {
	every := max(quiet/6, 200*time.Millisecond)
	since := time.Now()
	for {
		err := d.measureDepths(ctx)
		s := d.Snapshot()
		jobs, _ := d.depths.total()
		now := time.Now()
		if err != nil || jobs > 0 || s.Held+s.InFlight > 0 || s.Started.IsZero() {
			since = now
		}
		if now.Sub(since) >= quiet {
			return nil
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
