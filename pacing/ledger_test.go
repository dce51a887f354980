package pacing

import (
	"testing"
	"time"
)

var start = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// TestDecisionCost holds what a decision may cost: no allocation.
func TestDecisionCost(t *testing.T) {
	e := NewEstimator(5, 64_000)
	l := NewLedger(Limits{RPM: 10_000, TPM: 6_000_000}, start)
	now, size := start, Size{Text: 4_000, MaxTokens: 500}
	if n := testing.AllocsPerRun(1_000, func() { now = decide(&l, e, size, now) }); n != 0 {
		t.Errorf("a decision makes %v allocations, want none", n)
	}
}

// decide asks, waits, starts and settles, and returns when it did.
func decide(l *Ledger, e *Estimator, s Size, now time.Time) time.Time {
	c := e.Estimate(s, "tenant")
	if at := l.When(c, now); at.After(now) {
		now = at
	}
	g := l.Start(c, now)
	l.Settle(g, c.Expect, now)
	return now
}

func BenchmarkDecision(b *testing.B) {
	e := NewEstimator(5, 64_000)
	l := NewLedger(Limits{RPM: 10_000, TPM: 6_000_000}, start)
	now, size := start, Size{Text: 4_000, MaxTokens: 500}
	b.ReportAllocs()
	for b.Loop() {
		now = decide(&l, e, size, now)
	}
}
