package main

import (
	"context"
	"fmt"
	"io"
)

// memory holds a drainer at its cap of invocations for several latencies, and
// asks for the most memory that its process ever had resident.
func memory(ctx context.Context, p plan, progress io.Writer) ([]figure, error) {
	const turns = 4 // of all slots: the first fills them, the last empties them
	jobs := turns * p.resident
	w, err := newWorld(jobs, p.resident, p.latency)
	if err != nil {
		return nil, err
	}
	defer w.close()
	if err := w.enqueue(ctx, jobs); err != nil {
		return nil, err
	}
	proc, err := w.start(ctx, "drainer", p, "memory")
	if err != nil {
		return nil, err
	}
	defer proc.stop()
	if err := w.done(ctx, proc, jobs); err != nil {
		return nil, err
	}
	peak, known, err := proc.peakResident()
	if err != nil {
		return nil, err
	}
	if err := proc.stop(); err != nil {
		return nil, err
	}
	inFlight := w.bedrock().MaxInFlight
	if inFlight < p.resident*3/4 { // a busy machine may not fill the last slots before the first are free
		return nil, fmt.Errorf("memory: %d invocations were in flight at once, not %d", inFlight, p.resident)
	}
	f := figure{Name: fmt.Sprintf("resident with %d in flight", inFlight), Unit: "MiB", Value: float64(peak) / (1 << 20)}
	if !known {
		f.Missing = "needs Linux's /proc"
	}
	fmt.Fprintf(progress, "memory: %.0f MiB\n", f.Value)
	return []figure{f.atMost(100)}, nil
}
