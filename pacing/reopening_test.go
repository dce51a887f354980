package pacing

import (
	"testing"
	"time"
)

// A rolling minute that holds twice its new quota takes nothing for half a minute.
// Then it is measured, and what left it starts at once.
func TestCutMinute(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		scenario
		perMinute float64
		binds     int
	}{
		{"300 requests", scenario{configured: Limits{RPM: 300}, work: short, to: Limits{RPM: 150}}, 150, requests},
		{"60 requests", scenario{configured: Limits{RPM: 60}, work: short, to: Limits{RPM: 30}}, 30, requests},
		{"12 requests", scenario{configured: Limits{RPM: 12}, work: short, to: Limits{RPM: 6}}, 6, requests},
		{"tokens", scenario{configured: Limits{TPM: 400_000}, work: honest, to: Limits{TPM: 200_000}}, 200_000, tokens},
		{"tokens, beside requests that do not bind", scenario{
			configured: Limits{RPM: 2_000, TPM: 400_000}, work: honest, to: Limits{RPM: 2_000, TPM: 200_000}}, 200_000, tokens},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := test.scenario
			s.changes = 5 * time.Minute
			s.lasts = s.changes + 10*time.Minute
			p := s.player(&rollingMinute{}, 1)
			p.world.run(s.changes)
			before := p.outcome.throttled
			p.world.run(s.lasts)
			if got := p.outcome.sum(test.binds, s.changes, s.lasts); got < 0.97*10*test.perMinute {
				t.Errorf("%.0f in the ten minutes after the cut, want 97 %% of %.0f", got, 10*test.perMinute)
			}
			if n := p.outcome.throttled - before; n > 35 {
				t.Errorf("%d throttles after the cut, want 35 at most", n)
			}
		})
	}
}

// Slow jobs beside a steady neighbour, on a rolling minute: what is measured when it
// reopens does not starve them.
func TestReopeningBesideANeighbour(t *testing.T) {
	t.Parallel()
	for _, rpm := range []float64{6, 12, 20} {
		s := scenario{configured: Limits{RPM: rpm}, work: short, lasts: 20 * time.Minute, neighbour: func(time.Duration) float64 { return 0.5 }}
		got := s.play(&rollingMinute{}, 1)
		if n, want := got.sum(requests, warm, s.lasts), rpm/2*(s.lasts-warm).Minutes(); n < 0.95*want {
			t.Errorf("%v a minute: %v requests, want 95 %% of %v", rpm, n, want)
		}
	}
}

// Only a stall that a cut explains is measured.
func TestReopened(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		kind    minuteKind
		burst   time.Duration
		stall   time.Duration
		job     time.Duration // what each takes of the quota
		refused float64       // in the minute, in quotas, at the last refusal
		now     float64
		part    float64 // 0: it is not measured
	}{
		{"a quota that was halved", rolling, minute, 30 * time.Second, time.Second, 0.56, 0.52, 0.54},
		{"too short", rolling, minute, 10 * time.Second, time.Second, 0.56, 0.52, 0},
		{"too long", rolling, minute, 61 * time.Second, time.Second, 0.56, 0.52, 0},
		{"a bucket of half of the quota would stall as long", rolling, minute, 30 * time.Second, 16 * time.Second, 0.56, 0.52, 0},
		{"a small bucket keeps the pace", rolling, smallest, 30 * time.Second, time.Second, 0.56, 0.52, 0},
		{"a minute by the clock", calendar, minute, 30 * time.Second, time.Second, 0.56, 0.52, 0},
		{"others took nearly all", rolling, minute, 30 * time.Second, time.Second, 0.5, 0.4, 0},
		{"the quota was not cut", rolling, minute, 30 * time.Second, time.Second, 1.05, 1, 0},
	} {
		l := NewLedger(Limits{TPM: 60_000}, start)
		now := start.Add(time.Hour)
		l.advance(now)
		q := &l.quota[tokens]
		q.burst, q.window.kind = test.burst, test.kind
		l.emptied.used = test.refused
		l.recovery.since = l.now
		l.recovery.began = l.now - test.stall
		q.charge(time.Duration(test.now * float64(minute)))
		q.window.change(l.now, entry{charged: time.Duration(test.now * float64(minute))})
		l.reopened(&witness{at: l.now, charge: [...]time.Duration{tokens: test.job}})
		want := test.part
		if want == 0 {
			want = 1
		}
		if measured := l.reopening > 0; measured != (test.part > 0) || l.current < want-0.001 || l.current > want+0.001 {
			t.Errorf("%s: measured %v, the share is %.3f; want %v, %.3f", test.name, measured, l.current, test.part > 0, want)
		}
	}
}

// The hold of a cut is eased at the end of a stall in which a bucket would have earned
// several starts.
func TestHoldIsEased(t *testing.T) {
	t.Parallel()
	const stall, held = 10 * time.Second, 50 * time.Second
	for _, test := range []struct {
		name   string
		limits Limits
		burst  time.Duration
		job    time.Duration // what each takes of the quota; half of that is ours
		cut    bool
		hold   time.Duration
		want   time.Duration
	}{
		{"others took all", Limits{TPM: 60_000}, smallest, 1600 * time.Millisecond, true, held, holdFor(stall)},
		{"the start is large for that", Limits{TPM: 60_000}, smallest, 1700 * time.Millisecond, true, held, held},
		{"the hold is shorter", Limits{TPM: 60_000}, smallest, time.Second, true, holdFor(stall) - 1, holdFor(stall) - 1},
		{"nothing was cut", Limits{TPM: 60_000}, smallest, time.Second, false, held, held},
		{"a minute may be full", Limits{TPM: 60_000}, minute, time.Second, true, held, held},
		{"no quota: the concurrency may be", Limits{}, smallest, 0, true, held, held},
	} {
		l := NewLedger(test.limits, start)
		l.advance(start.Add(time.Hour))
		for d := range l.quota {
			l.quota[d].burst = test.burst
		}
		l.share.level, l.share.cutAt, l.share.hold, l.current = 0.5, l.now, test.hold, 0.5
		l.recovery = recovery{cut: test.cut, since: l.now, began: l.now - stall}
		l.reopened(&witness{at: l.now, charge: [...]time.Duration{tokens: test.job}})
		if l.share.hold != test.want || l.share.grow > l.share.hold {
			t.Errorf("%s: hold is %v, want %v", test.name, l.share.hold, test.want)
		}
	}
}

// What a reopening said holds until a throttle says something else.
func TestReopeningIsDoubted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		taken int64 // tokens in the minute, of 60,000
		kind  minuteKind
		holds bool
	}{
		{"as much as was seen to fit", 30_000, rolling, true},
		{"more, as the share has grown", 36_000, rolling, true},
		{"less: there are others", 24_000, rolling, false},
		{"all: it is not cut any more", 60_000, rolling, false},
		{"the kind that keeps the pace is another", 30_000, calendar, false},
	} {
		l := NewLedger(Limits{TPM: 60_000}, start)
		now := start.Add(time.Hour)
		l.advance(now)
		l.explore.due = never
		l.quota[tokens].burst, l.quota[tokens].window.kind = minute, test.kind
		l.measured(0.5)
		l.reopening = 0.5
		l.Start(fixed(test.taken), now)
		now = now.Add(time.Second)
		l.Refuse(l.Start(fixed(600), now), now.Add(50*time.Millisecond))
		if holds := l.reopening > 0; holds != test.holds {
			t.Errorf("%s: it holds: %v, want %v", test.name, holds, test.holds)
		}
		if share := (float64(test.taken) + 300) / 60_000; test.holds && (l.current < share-0.001 || l.current > share+0.001) {
			t.Errorf("%s: the share is %.3f, want %.3f", test.name, l.current, share)
		}
	}
}

// The clock's minute keeps the pace where one dimension counts by it; a small
// bucket's does not.
func TestKeeper(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		requests, tokens minuteKind
		small            bool // the bucket of requests
		want             minuteKind
	}{
		{rolling, rolling, false, rolling},
		{rolling, calendar, false, calendar},
		{calendar, rolling, false, calendar},
		{calendar, rolling, true, rolling},
		{neither, calendar, false, calendar},
		{neither, neither, false, neither},
	} {
		l := NewLedger(Limits{RPM: 300, TPM: 60_000}, start)
		for d, kind := range []minuteKind{test.requests, test.tokens} {
			l.quota[d].burst, l.quota[d].window.kind = minute, kind
		}
		if test.small {
			l.quota[requests].burst = smallest
		}
		if got := l.keeper(); got != test.want {
			t.Errorf("requests%v, tokens%v: kept by one%v, want%v", test.requests, test.tokens, got, test.want)
		}
	}
	if l := NewLedger(Limits{}, start); l.keeper() != neither {
		t.Error("what is not limited has a keeper")
	}
}
