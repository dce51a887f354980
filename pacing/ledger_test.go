package pacing

import (
	"testing"
	"time"
)

var start = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// line is a route under load: so many requests in flight, and the next one waits
// for the quota.
type line struct {
	estimator *Estimator
	ledger    Ledger
	size      Size
	now       time.Time
	grants    [64]Grant
	n         int
}

func newLine(now time.Time) *line {
	return &line{
		estimator: NewEstimator(5, 64_000),
		ledger:    NewLedger(Limits{RPM: 10_000, TPM: 6_000_000, Firm: true}, now),
		size:      Size{Text: 4_000, MaxTokens: 500},
		now:       now,
	}
}

// step waits for the next start, starts, and settles what started 64 before.
func (l *line) step() {
	c := l.estimator.Estimate(l.size, "tenant")
	if at := l.ledger.When(c, l.now); at.After(l.now) {
		l.now = at
	}
	g := &l.grants[l.n%len(l.grants)]
	l.ledger.Settle(*g, c.Expect, l.now)
	*g = l.ledger.Start(c, l.now)
	l.n++
}

func TestDecisionAllocatesNothing(t *testing.T) {
	l := newLine(start)
	if n := testing.AllocsPerRun(10_000, l.step); n != 0 {
		t.Errorf("a decision makes %v allocations, want none", n)
	}
}

// BenchmarkDecision is an estimate, a wait, a settlement and a start.
func BenchmarkDecision(b *testing.B) {
	l := newLine(start)
	b.ReportAllocs()
	for b.Loop() {
		l.step()
	}
}
