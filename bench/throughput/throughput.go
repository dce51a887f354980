package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// round is one run of a measured process through a queue of jobs.
type round struct {
	perSecond float64       // jobs, from the first invocation to the last result
	sqsCalls  float64       // a job, from the start of the process to the last delete
	processor time.Duration // a job, of the process in its whole life
}

// throughput lets the drainer and the bare loop work through the same jobs, in
// turn, so that what else the machine does meets both.
func throughput(ctx context.Context, p plan, progress io.Writer) ([]figure, error) {
	rounds := map[string][]round{}
	for i := range p.rounds {
		for _, role := range []string{"drainer", "bare"} {
			r, err := oneRound(ctx, p, role)
			if err != nil {
				return nil, fmt.Errorf("round %d of the %s: %w", i+1, role, err)
			}
			fmt.Fprintf(progress, "round %d of %d, %-7s %6.0f jobs/s\n", i+1, p.rounds, role, r.perSecond)
			rounds[role] = append(rounds[role], r)
		}
	}
	perSecond := func(r round) float64 { return r.perSecond }
	processor := func(r round) float64 { return float64(r.processor) / float64(time.Microsecond) }
	calls := func(r round) float64 { return r.sqsCalls }
	drainer := newFigure("throughput of the drainer", "jobs/s", rounds["drainer"], perSecond)
	bare := newFigure("throughput of the bare loop", "jobs/s", rounds["bare"], perSecond)
	return []figure{
		drainer, bare,
		figure{Name: "drainer / bare loop", Value: drainer.Value / bare.Value}.atLeast(0.70),
		newFigure("processor time of the drainer", "µs/job", rounds["drainer"], processor),
		newFigure("processor time of the bare loop", "µs/job", rounds["bare"], processor),
		newFigure("SQS calls of the drainer", "calls/job", rounds["drainer"], calls).atMost(0.35),
		newFigure("SQS calls of the bare loop", "calls/job", rounds["bare"], calls),
	}, nil
}

// newFigure is the median of a property of the rounds.
func newFigure(name, unit string, rounds []round, of func(round) float64) figure {
	f := figure{Name: name, Unit: unit}
	for _, r := range rounds {
		f.Samples = append(f.Samples, of(r))
	}
	sorted := slices.Sorted(slices.Values(f.Samples))
	f.Value = (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
	return f
}

func oneRound(ctx context.Context, p plan, role string) (r round, err error) {
	w, err := newWorld(p.jobs, p.inFlight, 0)
	if err != nil {
		return r, err
	}
	defer w.close()
	if err := w.enqueue(ctx, p.jobs); err != nil {
		return r, err
	}
	proc, err := w.start(ctx, role, p, "throughput")
	if err != nil {
		return r, err
	}
	defer proc.stop()
	first, err := next(ctx, proc, w.invoked)
	if err != nil {
		return r, err
	}
	var last time.Time
	for range p.jobs {
		if last, err = next(ctx, proc, w.stored); err != nil {
			return r, err
		}
	}
	if err := w.done(ctx, proc, p.jobs); err != nil {
		return r, err
	}
	r.perSecond = float64(p.jobs) / last.Sub(first).Seconds()
	r.sqsCalls = float64(w.sqsCalls()) / float64(p.jobs)
	if err := proc.stop(); err != nil {
		return r, err
	}
	r.processor = proc.processorTime() / time.Duration(p.jobs)
	return r, nil
}
