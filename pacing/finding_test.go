package pacing

import (
	"math"
	"testing"
	"time"
)

// Between two moments at which a bucket was empty, it earned what was taken.
func TestTwoThrottlesMeasureWhatIsOurs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		limits Limits
		over   time.Duration
		takes  int           // requests
		burst  time.Duration // what was seen to be admitted at once
		known  bool
		part   float64
		weight float64
	}{
		{"a bucket", Limits{RPM: 60}, 20 * time.Second, 10, smallest, true, 0.5, nearer},
		{"a bucket of tokens", Limits{TPM: 60_000}, 20 * time.Second, 15, smallest, true, 0.75, nearer},
		{"a bucket, but for a moment", Limits{RPM: 60}, brief / 2, 1, smallest, true, 1 / 0.75, nearer / 2},
		{"less than the quota takes for one", Limits{RPM: 20}, brief, 1, smallest, true, 2, nearer / 2},
		{"a full minute is what was taken in it", Limits{RPM: 60}, 20 * time.Second, 10, minute, true, 10.0 / 60, nearer},
		{"a full minute at once", Limits{RPM: 60}, brief / 2, 10, minute, true, 10.0 / 60, nearer},
		{"too long ago", Limits{RPM: 60}, findingMost, 10, smallest, false, 0, 0},
		{"no quota", Limits{}, 20 * time.Second, 10, smallest, false, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := NewLedger(c.limits, start)
			for d := range l.quota {
				l.quota[d].burst = c.burst
			}
			now := start.Add(2 * time.Minute)
			l.advance(now)
			for d := range l.quota {
				l.quota[d].empty(1, 0)
			}
			if f := l.find(l.advance(now)); f.known {
				t.Errorf("the first throttle measured %v", f)
			}
			for range c.takes {
				l.Start(fixed(1_000), now)
			}
			now = now.Add(c.over)
			f := l.find(l.advance(now))
			if f.known != c.known {
				t.Fatalf("known: %v, want %v", f.known, c.known)
			}
			if !f.known {
				return
			}
			if f.part < c.part-0.001 || f.part > c.part+0.001 {
				t.Errorf("%.3f of the quota was ours, want %.3f", f.part, c.part)
			}
			if math.Abs(f.weight-c.weight) > 0.001 {
				t.Errorf("its weight is %.3f, want %.3f", f.weight, c.weight)
			}
			if f.over != c.over || f.offered < 0.999 || f.offered > 1.001 {
				t.Errorf("over %v at a share of %.3f, want %v at 1", f.over, f.offered, c.over)
			}
		})
	}
}

// What a cut kept us from asking for counts as ours, of a bucket: a measure of what was
// taken while we held back would cut us again for that.
func TestWhatWasNotAskedForIsOurs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		met   float64 // the level of the last cut; what was taken is a quarter
		burst time.Duration
		part  float64
	}{
		{"below the level", 0.5, smallest, 0.25 + 0.1},
		{"at the level", 0.4, smallest, 0.25},
		{"above the level", 0.3, smallest, 0.25},
		{"a full minute is what was taken in it", 0.5, minute, 5.0 / 60},
	} {
		l := NewLedger(Limits{RPM: 60}, start)
		now := start.Add(2 * time.Minute)
		l.quota[requests].burst = c.burst
		l.advance(now)
		l.quota[requests].empty(1, 0)
		l.find(l.now)
		l.current = 0.4
		// A share that stays there.
		l.share.level, l.share.met, l.share.cutAt, l.share.hold = 0.4, c.met, l.now, time.Hour
		for range 5 {
			l.Start(fixed(1_000), now)
		}
		if f := l.find(l.advance(now.Add(20 * time.Second))); math.Abs(f.part-c.part) > 0.001 {
			t.Errorf("%s: %.3f of the quota was ours, want %.3f", c.name, f.part, c.part)
		}
	}
}

// Only a clock's minute that may be what keeps the pace is waited out.
func TestTurn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind  minuteKind
		burst time.Duration
		waits bool
	}{
		{calendar, minute, true},
		{calendar, smallest, false},
		{rolling, minute, false},
		{neither, minute, false},
	} {
		l := NewLedger(Limits{RPM: 60}, start)
		l.quota[requests].burst, l.quota[requests].window.kind = c.burst, c.kind
		now := l.advance(start.Add(2*time.Minute + 20*time.Second))
		at := l.turn() - now
		if !c.waits && l.turn() != 0 || c.waits && (at < 40*time.Second || at > 41*time.Second) {
			t.Errorf("%v after %v%v, want a wait of 40 s: %v", at, c.burst, c.kind, c.waits)
		}
	}
}
