package pacing

import (
	"testing"
	"time"
)

// newRoute returns a route of 600 requests a minute with n requests in flight.
func newRoute(n int, now time.Time) (*Route, []Ticket) {
	l := NewLedger(Limits{RPM: 600}, now)
	r := &Route{Ledger: &l, Estimator: NewEstimator(1, 10)}
	var tickets []Ticket
	for range n {
		tickets = append(tickets, r.Start(Charge{}, now))
	}
	return r, tickets
}

func TestBreakerOpensOnFiveFailuresFromThreeJobs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		jobs []uint64
		ends map[int]Outcome // others than Unavailable, by place
		want Cause
	}{
		{"five from three jobs", []uint64{1, 2, 3, 1, 1}, nil, Broken},
		{"five from two jobs", []uint64{1, 2, 1, 2, 1}, nil, Open},
		{"four", []uint64{1, 2, 3, 4}, nil, Open},
		{"an answer between", []uint64{1, 2, 3, 4, 5}, map[int]Outcome{2: Answered}, Open},
		{"a rejection between", []uint64{1, 2, 3, 4, 5}, map[int]Outcome{2: Rejected}, Open},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			now := time.Unix(1e9, 0)
			r, tickets := newRoute(len(c.jobs), now)
			for i, job := range c.jobs {
				o, ok := c.ends[i]
				if !ok {
					o = Unavailable
				}
				r.End(tickets[i], o, 0, 0, job, now)
			}
			if got := r.Gate.Cause(); got != c.want {
				t.Errorf("the gate is %v, want %v", got, c.want)
			}
		})
	}
}

func TestProbesOfABrokenRoute(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	r, tickets := newRoute(7, now)
	for i, tk := range tickets[:5] {
		r.End(tk, Unavailable, 0, 0, uint64(i+1), now)
	}
	for _, interval := range []time.Duration{5, 10, 20, 40, 60, 60} {
		interval *= time.Second
		if at := r.When(Charge{}, now).Sub(now); at != interval {
			t.Fatalf("the next probe goes after %v, want %v", at, interval)
		}
		now = now.Add(interval)
		probe := r.Start(Charge{}, now)
		if !r.When(Charge{}, now).After(now) {
			t.Fatal("two probes in the air")
		}
		r.End(probe, Unavailable, 0, 0, 9, now)
	}
	now = now.Add(time.Minute)
	r.End(r.Start(Charge{}, now), Refused, 0, 0, 9, now)
	if r.Gate.Cause() != Broken {
		t.Error("a throttle closed the breaker")
	}
	probe := r.Start(Charge{}, now)
	r.End(tickets[5], Answered, 0, 0, 9, now) // a straggler's success
	if r.Gate.Cause() != Open {
		t.Error("a success did not close the breaker")
	}
	r.End(probe, Unavailable, 0, 0, 9, now)
	if r.Gate.Cause() != Open {
		t.Error("one failure of what was a probe opened the breaker again")
	}
}

// The interval between probes is one between their starts: a probe that hangs
// is no reason to wait for longer.
func TestAProbeThatHangsCountsAsInterval(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	r, tickets := newRoute(5, now)
	for i, tk := range tickets {
		r.End(tk, Unavailable, 0, 0, uint64(i+1), now)
	}
	const hangs = 30 * time.Second
	for i, rest := range []time.Duration{5, 0, 0, 10, 30, 30} { // of 5, 10, 20, 40, 60, 60 s
		rest *= time.Second
		if got := r.When(Charge{}, now).Sub(now); got != rest {
			t.Fatalf("probe %d goes after %v, want %v", i+1, got, rest)
		}
		now = now.Add(rest)
		probe := r.Start(Charge{}, now)
		now = now.Add(hangs)
		if !r.When(Charge{}, now).After(now) {
			t.Fatalf("probe %d goes beside one that hangs", i+2)
		}
		r.End(probe, Unavailable, 0, 0, 9, now)
	}
}

// A probe that hangs until the gate was opened and closed again is not the probe of
// that.
func TestAProbeOfAnEarlierTrouble(t *testing.T) {
	t.Parallel()
	now := start
	r, tickets := newRoute(20, now)
	fail := func(from, to int) {
		for i := from; i < to; i++ {
			r.End(tickets[i], Unavailable, 0, 0, uint64(i+1), now)
		}
	}
	fail(0, 5)
	now = now.Add(5 * time.Second)
	old := r.Start(Charge{}, now)
	r.End(tickets[5], Answered, 0, 0, 6, now) // a straggler opens it
	fail(6, 11)
	now = now.Add(5 * time.Second)
	r.Start(Charge{}, now)
	before := r.Gate
	r.End(old, Unavailable, 0, 0, 99, now.Add(time.Second))
	if r.Gate != before {
		t.Errorf("the gate is %+v after the end of an earlier probe, want %+v", r.Gate, before)
	}
}

func TestAWorseCauseIsKept(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	r, tickets := newRoute(6, now)
	r.End(tickets[0], Exhausted, 0, 0, 1, now)
	for i, tk := range tickets[1:] {
		r.End(tk, Unavailable, 0, 0, uint64(i+1), now)
	}
	if r.Gate.Cause() != Parked {
		t.Errorf("stragglers made a parked route %v", r.Gate.Cause())
	}
}

func TestHealthLeavesOutTheAskersOwnFailures(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	r, tickets := newRoute(12, now)
	if r.Healthy(0, now) {
		t.Error("a route without an answer is not known to be healthy")
	}
	for _, tk := range tickets[:9] {
		r.End(tk, Answered, 0, 0, 1, now)
	}
	for _, tk := range tickets[9:] {
		r.End(tk, Unavailable, 0, 0, 2, now)
	}
	if !r.Healthy(2, now) || r.Healthy(1, now) {
		t.Error("nine good of ten others are healthy, nine of eleven are not")
	}
	if r.Healthy(2, now.Add(time.Minute)) {
		t.Error("answers count for a minute")
	}
}
