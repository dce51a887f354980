package drainer

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sluicehq/sluice/internal/queue"
	"github.com/sluicehq/sluice/worker"
)

// depths is how much the job queues hold, as SQS last said.
type depths struct {
	mu    sync.Mutex
	known bool
	by    []queue.Attributes
}

// total adds up what is known of the queues.
func (d *depths) total() (jobs int, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.by {
		jobs += a.Visible + a.Delayed + a.InFlight
	}
	return jobs, d.known
}

// visible returns the jobs that wait in each queue: in sight, or not yet.
func (d *depths) waiting() []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	waiting := make([]int, len(d.by))
	for i, a := range d.by {
		waiting[i] = a.Visible + a.Delayed
	}
	return waiting
}

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

// drainTime estimates how long the backlog takes at the present pace: that of
// the slowest model, taking each queue's waiting jobs to be of its last mix.
func (d *Drainer) drainTime(s worker.Snapshot) (time.Duration, bool) {
	if _, known := d.depths.total(); !known {
		return 0, false
	}
	jobs := map[string]float64{}
	for i, waiting := range d.depths.waiting() {
		if i < len(s.Sources) {
			for model, part := range s.Sources[i].Mix {
				jobs[model] += part * float64(waiting)
			}
		}
	}
	var longest time.Duration
	for _, m := range s.Models {
		longest = max(longest, time.Duration((jobs[m.Alias]+float64(m.Held))*float64(m.Each)))
	}
	return longest, true
}

// Empty waits until the queues have shown nothing visible, delayed or in flight
// for the whole of quiet. SQS's counts are approximate, hence a while and not a
// moment. Its error is ctx's.
func (d *Drainer) Empty(ctx context.Context, quiet time.Duration) error {
	every := max(quiet/6, 200*time.Millisecond)
	since := time.Now()
	for {
		err := d.measureDepths(ctx)
		s := d.Snapshot()
		jobs, _ := d.depths.total()
		now := time.Now()
		if err != nil || jobs > 0 || s.Held+s.InFlight > 0 {
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
