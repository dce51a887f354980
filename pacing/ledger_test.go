package pacing

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
	l.ledger.Settle(*g, c.Expect, 0, l.now)
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

// fixed is the charge of a request of so many tokens, known beforehand.
func fixed(n int64) Charge { return Charge{Reserve: n, Expect: n, Input: n} }

// pace starts as many requests as the ledger permits within the time, and
// returns when.
func pace(l *Ledger, c Charge, from time.Time, within time.Duration) (starts []time.Duration) {
	for now := from; ; {
		if at := l.When(c, now); at.After(now) {
			now = at
		}
		if now.Sub(from) >= within {
			return starts
		}
		starts = append(starts, now.Sub(from))
		l.Settle(l.Start(c, now), c.Expect, 0, now)
	}
}

func TestNewLedgerHasNoCredit(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		limits Limits
		charge Charge
		want   time.Duration // the first start
	}{
		{"requests", Limits{RPM: 60}, fixed(100), time.Second},
		{"tokens", Limits{TPM: 60_000}, fixed(500), 500 * time.Millisecond},
		{"the scarcer of both", Limits{RPM: 600, TPM: 60_000}, fixed(2_000), 2 * time.Second},
		{"two requests a minute", Limits{RPM: 2}, fixed(100), 30 * time.Second},
		{"no limit", Limits{}, fixed(1_000_000), 0},
	} {
		l := NewLedger(test.limits, start)
		l.explore.due = never
		got := max(l.When(test.charge, start).Sub(start), 0)
		if got < test.want || got > test.want+250*time.Millisecond {
			t.Errorf("%s: first start after %v, want %v and the margins", test.name, got, test.want)
		}
	}
}

func TestIdleLedgerStartsAtOnceAndWithoutClump(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{RPM: 300}, start)
	l.explore.due = never
	idle := start.Add(time.Hour)
	starts := pace(&l, fixed(100), idle, 2*time.Second)
	if starts[0] != 0 {
		t.Errorf("the first start waits %v, want none", starts[0])
	}
	var second int
	for _, at := range starts {
		if at < time.Second {
			second++
		}
	}
	// A bucket of one second, and what it earns meanwhile.
	if second < 8 || second > 10 {
		t.Errorf("%d starts in the first second, want some 5 + 5", second)
	}
}

func TestSettlementGivesBackOrTakesMore(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		settled int64
		want    time.Duration // until the bucket holds 900 of its 1,000 again
	}{
		{"as reserved", 900, 800 * time.Millisecond},
		{"half", 450, 350 * time.Millisecond},
		{"twice", 1_800, 1_700 * time.Millisecond},
	} {
		l := NewLedger(Limits{TPM: 60_000}, start)
		l.explore.due = never
		now := start.Add(time.Hour)
		g := l.Start(fixed(900), now)
		now = now.Add(lag + time.Millisecond) // the refund is surely later than the start
		l.Settle(g, test.settled, 0, now)
		got := l.When(fixed(900), now).Sub(now) + lag
		if d := got - test.want - jitter; d < -5*time.Millisecond || d > 5*time.Millisecond {
			t.Errorf("%s: next start after %v, want %v and the jitter", test.name, got, test.want)
		}
	}
}

// A refund that overfills the bucket leaves no doubt that it is full.
func TestARefundThatOverfillsIsSure(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{TPM: 60_000}, start)
	l.explore.due = never
	now := start.Add(time.Hour)
	big := fixed(3_000) // more than the bucket: it needs a full one
	g := l.Start(big, now)
	now = now.Add(2 * time.Second)
	l.Settle(g, 100, 0, now)
	if at := l.When(big, now); at.After(now) {
		t.Errorf("a bucket that dropped two seconds is waited for, for %v", at.Sub(now))
	}
}

// Where a minute may keep the pace, settlements that are still to come are
// planned for; where a small bucket does, they are left to it.
func TestSettlementsToComeArePlannedByTheMinute(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		burst time.Duration
		full  bool
	}{{smallest, false}, {minute, true}} {
		l := NewLedger(Limits{TPM: 60_000}, start)
		l.quota[tokens].burst = c.burst
		l.explore.due = never
		now := start.Add(2 * time.Minute)
		over := Charge{Reserve: 100, Expect: 6_000, Input: 50}
		for range 10 { // a minute's worth in all, of which 1 s was charged
			now = now.Add(time.Second)
			l.Start(over, now)
		}
		wait := l.When(over, now.Add(time.Second)).Sub(now)
		if full := wait > 30*time.Second; full != c.full {
			t.Errorf("with a bucket of %v the next start is %v after ten that settle as a minute", c.burst, wait)
		}
	}
}

// Settlements to come leave the minute with what was charged for them.
func TestAnswerStandsWhenSettlementsToComeLeave(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{TPM: 60_000}, start)
	l.explore.due = never
	now := start.Add(2*time.Minute + 10*time.Second)
	l.Start(Charge{Reserve: 1_000, Expect: 31_000, Input: 1}, now)
	now = now.Add(time.Second)
	l.Start(fixed(54_000), now)
	at := l.When(fixed(10_000), now)
	if again := l.When(fixed(10_000), at); again.After(at) {
		t.Errorf("to wait %v was not enough: %v more", at.Sub(now), again.Sub(at))
	}
}

// What others took of a minute comes back as it grows old, and tells nothing of
// the clocks.
func TestWhatOthersTookFillsTheMinute(t *testing.T) {
	t.Parallel()
	for _, kind := range []minuteKind{rolling, calendar} {
		l := NewLedger(Limits{RPM: 60}, start)
		q := &l.quota[requests]
		q.burst, q.window.kind = minute, kind
		now := l.advance(start.Add(2*time.Minute + time.Second))
		limit := q.window.limit()
		q.window.fill(true)
		if room := q.window.room(true); kind == rolling && room > time.Second {
			t.Errorf("a full minute has room for %v", room)
		}
		if got := q.window.limit(); got != limit {
			t.Errorf("%v: what others took changed the limit from %v to %v", kind, limit, got)
		}
		at := q.window.when(30*time.Second, now, 1, true) - now
		if kind == rolling && (at < 29*time.Second || at > 32*time.Second) {
			t.Errorf("half of a minute that others filled evenly is free after %v", at)
		}
	}
}

func TestRefusalLetsOneProbeIntoTheAir(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{RPM: 6_000}, start)
	l.explore.due = never
	now := start.Add(time.Hour)
	first, second := l.Start(fixed(1), now), l.Start(fixed(1), now)
	l.Refuse(first, now)
	l.Refuse(second, now)
	if at := l.When(fixed(1), now); at.Sub(now) > pauseFirst {
		t.Fatalf("the probe waits %v", at.Sub(now))
	}
	now = now.Add(pauseFirst)
	l.Start(fixed(1), now)
	wait := l.When(fixed(1), now).Sub(now)
	if wait < patienceLeast || wait > patienceLeast+time.Millisecond {
		t.Errorf("with a probe in the air the next start is in %v, want %v or a little more", wait, patienceLeast)
	}

	// Refused probes go out ever more rarely.
	var waits []time.Duration
	for range 12 {
		at := l.When(fixed(1), now)
		waits = append(waits, at.Sub(now))
		now = at
		l.Refuse(l.Start(fixed(1), now), now)
	}
	if last := waits[len(waits)-1]; last != pauseMost {
		t.Errorf("after twelve refused probes the next waits %v, want %v (%v)", last, pauseMost, waits)
	}
}

func TestThrottlesCutTheShareAndTimeRestoresIt(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{RPM: 600}, start)
	l.explore.due = never
	now := start.Add(time.Minute)
	flight := func() {
		a, b := l.Start(fixed(1), now), l.Start(fixed(1), now)
		now = now.Add(50 * time.Millisecond)
		l.Refuse(a, now)
		l.Refuse(b, now)
		now = now.Add(time.Second)
		l.Settle(l.Start(fixed(1), now), 1, 0, now.Add(time.Second)) // a probe, accepted
		now = now.Add(2 * time.Second)
	}
	var shares []float64
	for range 4 {
		flight()
		shares = append(shares, l.View(now).Share)
	}
	if shares[0] != 1 || shares[1] != 1 {
		t.Errorf("shares %v: the first two flights are slips, want no cut", shares)
	}
	if shares[2] >= 1 || shares[3] >= shares[2] {
		t.Errorf("shares %v: want a cut for the third flight, and one for the fourth", shares)
	}
	if got := l.View(now.Add(2 * time.Minute)).Share; got != 1 {
		t.Errorf("share is %v two minutes later, want 1", got)
	}
}

// The last minute of a rolling limit is what the share was meanwhile, not what
// it is now: a cut must not stop every start.
func TestCutDoesNotStopEverything(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{RPM: 600}, start)
	l.explore.due = never
	now := start.Add(time.Hour)
	pace(&l, fixed(1), now.Add(-2*time.Minute), 2*time.Minute)
	l.share.cut(l.now, finding{}, 1)
	if n := len(pace(&l, fixed(1), now, 5*time.Second)); n < 40 || n > 60 {
		t.Errorf("%d starts in the five seconds after a cut by a tenth, want some 50", n)
	}
}

func TestOversize(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{TPM: 10_000}, start)
	l.explore.due = never
	big, small := fixed(25_000), fixed(100)
	if !l.Oversize(big) || l.Oversize(fixed(10_000)) {
		t.Error("Oversize is not about the whole minute")
	}
	now := start.Add(time.Hour)
	if at := l.When(big, now); at.After(now) {
		t.Errorf("an empty minute makes it wait %v", at.Sub(now))
	}
	g := l.Start(big, now)
	if at := l.When(small, now.Add(time.Second)); at.Before(now.Add(minute)) {
		t.Errorf("the next start is %v later, want a minute", at.Sub(now))
	}
	l.Settle(g, 500, 0, now.Add(2*time.Second))
	if at := l.When(big, now.Add(2*minute)); at.Sub(now) != oversizeEvery {
		t.Errorf("the next oversize start is %v later, want %v", at.Sub(now), oversizeEvery)
	}
	now = now.Add(oversizeEvery)
	l.Refuse(l.Start(big, now), now.Add(time.Second))
	if at := l.When(big, now.Add(2*minute)); at.Sub(now) != oversizeAgain {
		t.Errorf("after a throttle the next oversize start is %v later, want %v", at.Sub(now), oversizeAgain)
	}
	share := l.View(now).Share
	for i := range 10 {
		now = now.Add(oversizeAgain)
		l.Refuse(l.Start(big, now), now.Add(time.Duration(i)*time.Millisecond))
	}
	if got := l.View(now).Share; got != share {
		t.Errorf("throttles of oversize requests changed the share from %v to %v", share, got)
	}
}

// What needs a whole minute depends on what the minute is believed to hold; a bucket
// earns whatever it is asked for.
func TestOversizeIsOfTheBelievedMinute(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		burst  time.Duration
		share  float64
		charge int64
		want   bool
	}{
		{"two thirds of a minute that holds half", minute, 0.5, 40_000, true},
		{"two fifths of it", minute, 0.5, 24_000, false},
		{"two thirds beside a neighbour on a small bucket", smallest, 0.5, 40_000, false},
		{"a sixth more than one minute of a doubled quota", minute, 2, 70_000, false},
		{"more than the whole of that", minute, 2, 130_000, true},
	} {
		l := NewLedger(Limits{TPM: 60_000}, start)
		l.quota[tokens].burst = test.burst
		l.share.top = max(test.share, 1)
		l.share.become(l.now, test.share)
		l.reshare()
		if got := l.Oversize(fixed(test.charge)); got != test.want {
			t.Errorf("%s: oversize is %v, want %v", test.name, got, test.want)
		}
	}
}

// A quota of less than a request a minute is slow, and nothing else.
func TestHalfARequestAMinute(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{RPM: 0.5}, start)
	l.explore.due = never
	now := start.Add(time.Hour)
	l.Start(fixed(1), now)
	if wait := l.When(fixed(1), now).Sub(now); wait < 2*minute || wait > 2*minute+2*time.Second {
		t.Errorf("the next start is in %v, want two minutes", wait)
	}
}

func TestUnpacedLearnsConcurrency(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{}, start)
	now := start
	var open []Grant
	for range 40 {
		if at := l.When(fixed(1_000), now); at.After(now) {
			t.Fatalf("an unpaced start waits %v", at.Sub(now))
		}
		open = append(open, l.Start(fixed(1_000), now))
	}
	for range 4 { // flights of throttles above forty in flight
		l.Refuse(l.Start(fixed(1_000), now), now.Add(50*time.Millisecond))
		now = l.When(fixed(1_000), now.Add(time.Second))
		g := l.Start(fixed(1_000), now) // a probe, accepted
		l.When(fixed(1_000), now)
		now = now.Add(time.Second)
		l.Settle(g, 1_000, 0, now)
	}
	if at := l.When(fixed(1_000), now); !at.After(now) {
		t.Error("at the number in flight that was throttled another may start")
	}
	for _, g := range open[:20] {
		l.Settle(g, 1_000, 0, now)
	}
	if at := l.When(fixed(1_000), now); at.After(now) {
		t.Errorf("at half of it the next waits %v", at.Sub(now))
	}
}

// Requests that run for many minutes are of no minute any more, and of no margin.
func TestLongRequestsLeaveTheMargin(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{TPM: 600_000}, start)
	l.explore.due = never
	l.quota[tokens].burst = minute
	now := start.Add(time.Hour)
	c := Charge{Reserve: 2_000, Expect: 2_000, Input: 1_000, Doubt: 200}
	for range 3_000 {
		l.Start(c, now)
		now = now.Add(200 * time.Millisecond)
	}
	now = now.Add(30 * time.Minute)
	if n := len(pace(&l, c, now, 20*time.Minute)); n < 5_900 {
		t.Errorf("%d starts in twenty minutes beside requests of half an hour ago, want nearly 6,000", n)
	}
}

// A bucket that refuses is not full, however much it was asked for.
func TestWhoIsRefusedWaitsForTheBucket(t *testing.T) {
	t.Parallel()
	for _, reserve := range []int64{500, 1_000, 3_000, 5_000} {
		l := NewLedger(Limits{TPM: 60_000}, start) // a bucket of 1,000
		l.explore.due = never
		l.quota[tokens].window.kind = neither
		now := start.Add(time.Hour)
		l.Refuse(l.Start(fixed(reserve), now), now.Add(60*time.Millisecond))
		now = now.Add(60 * time.Millisecond)
		want := time.Duration(min(reserve, 1_000)/2) * time.Millisecond
		if wait := l.When(fixed(reserve), now).Sub(now); wait < want || wait > want+2*jitter {
			t.Errorf("after a refused reservation of %d the next waits %v, want about %v", reserve, wait, want)
		}
	}
}

// A recovery goes on with the answers, however long a throttle may take to come.
func TestAnAnswerIsAnAccept(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{RPM: 6_000}, start)
	l.explore.due = never
	now := start.Add(time.Hour)
	l.Refuse(l.Start(fixed(1), now), now.Add(1500*time.Millisecond)) // a slow one
	now = now.Add(2 * time.Second)
	starts := 0
	for end := now.Add(30 * time.Second); now.Before(end); now = now.Add(100 * time.Millisecond) {
		now = l.When(fixed(1), now)
		g := l.Start(fixed(1), now)
		l.Settle(g, 1, 0, now.Add(100*time.Millisecond))
		starts++
	}
	if starts < 280 {
		t.Errorf("%d starts in 30 s, each answered after 0.1 s, want nearly 300", starts)
	}
}

// Who is refused and has no other job does not keep the share down for the night.
func TestShareReturnsWhileNobodyAsks(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{RPM: 600}, start)
	l.explore.due = never
	now := start.Add(time.Hour)
	for range 8 { // each flight's probe is accepted, but the last one's
		l.Refuse(l.Start(fixed(1), now), now.Add(50*time.Millisecond))
		now = l.When(fixed(1), now.Add(400*time.Millisecond))
		l.Start(fixed(1), now)
		now = now.Add(time.Second)
	}
	l.Refuse(l.Start(fixed(1), now), now.Add(50*time.Millisecond))
	l.When(fixed(1), now.Add(50*time.Millisecond))
	if v := l.View(now.Add(time.Second)); v.Share > 0.9 {
		t.Fatalf("the share is %.2f after nine flights", v.Share)
	}
	for minute := range 30 {
		l.View(now.Add(time.Duration(minute) * time.Minute))
	}
	if v := l.View(now.Add(30 * time.Minute)); v.Share != 1 {
		t.Errorf("the share is %.2f after half an hour in which nobody asked", v.Share)
	}
}

func TestCopyIsAFork(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{RPM: 60, TPM: 60_000}, start)
	now := start.Add(time.Hour)
	g := l.Start(fixed(500), now)
	before := l.Event("", fixed(100), now)
	fork := l
	fork.Settle(g, 100, 0, now.Add(time.Second))
	fork.Start(fixed(100), now.Add(time.Second))
	if after := l.Event("", fixed(100), now); after != before {
		t.Errorf("what happened to a copy changed the ledger's answer from %+v to %+v", before, after)
	}
}

func TestForecast(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		limits           Limits
		requests, tokens float64
		want             time.Duration
	}{
		{Limits{RPM: 60}, 120, 1e9, 2 * time.Minute},
		{Limits{TPM: 60_000}, 1e9, 30_000, 30 * time.Second},
		{Limits{RPM: 60, TPM: 60_000}, 120, 30_000, 2 * time.Minute},
		{Limits{}, 1e9, 1e9, 0},
	} {
		l := NewLedger(test.limits, start)
		if got, _ := l.Forecast(test.requests, test.tokens); got != test.want {
			t.Errorf("%+v: forecast is %v, want %v", test.limits, got, test.want)
		}
		l.current = 0.5
		if got, whole := l.Forecast(test.requests, test.tokens); got != 2*test.want || whole != test.want {
			t.Errorf("%+v: forecast at half of the share is %v, and %v at all of it; want %v and %v", test.limits, got, whole, 2*test.want, test.want)
		}
	}
}

func TestView(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{RPM: 60, TPM: 60_000}, start)
	now := start.Add(time.Hour)
	l.Settle(l.Start(fixed(500), now), 200, 0, now)
	l.Start(fixed(2_000), now)
	l.When(fixed(2_000), now)
	want := View{
		Share: 1, Shape: "bucket of 1s in a rolling minute", Bucket: time.Second, Minute: true,
		Requests: 2, Tokens: 2_200, Margin: jitter,
		// The refund came too soon after the starts to be sure of it.
		RequestLevel: 1 - 2, TokenLevel: 1_000 - 500 - 2_000, InFlight: 1, Bound: true,
	}
	if diff := cmp.Diff(want, l.View(now)); diff != "" {
		t.Errorf("view (-want +got):\n%s", diff)
	}
}

// The shape in view is that of the dimension of which more was learned.
func TestViewOfWhatBinds(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{RPM: 300, TPM: 2_000_000}, start)
	l.quota[requests].burst, l.quota[requests].window.kind = minute, neither
	if v := l.View(start.Add(time.Hour)); v.Bucket != minute || v.Minute {
		t.Errorf("the view is of a %s, want that of the requests", v.Shape)
	}
}

// TestLateThrottle: a throttle that comes after its start was taken for an
// accept takes back what that start had proved.
func TestLateThrottle(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{RPM: 600}, start)
	now := start.Add(5 * time.Second)
	var g Grant
	for range 40 { // explores at twice the quota
		if at := l.When(fixed(1), now); at.After(now) {
			now = at
		}
		g = l.Start(fixed(1), now)
	}
	now = now.Add(time.Second)
	l.View(now)
	if l.quota[requests].burst <= smallest {
		t.Fatalf("the exploration proved nothing: %v", l.quota[requests].burst)
	}
	l.Refuse(g, now)
	if got := l.quota[requests].burst; got != smallest {
		t.Errorf("a bucket of %v is still believed in", got)
	}
	if l.witnesses.patience != 4*time.Second {
		t.Errorf("patience is %v, want four times the throttle's second", l.witnesses.patience)
	}
}

// TestAFullBucketForgets: what an estimate was off by counts until the bucket was
// full; from then on it counts in what the settlement gives back.
func TestAFullBucketForgets(t *testing.T) {
	t.Parallel()
	doubtful := Charge{Reserve: 1_000, Expect: 500, Input: 500, Doubt: 30}
	for _, test := range []struct {
		name  string
		after time.Duration
		input int64
		want  time.Duration // the debt after a settlement of 500 tokens
		fresh float64       // between the start and that
	}{
		{"in debt", 500 * time.Millisecond, 600, time.Second, square(30)},
		{"full", 2 * time.Second, 500, 500 * time.Millisecond, 0},
		{"full, input above the estimate", 2 * time.Second, 600, 400 * time.Millisecond, 0},
		{"full, input below the estimate", 2 * time.Second, 300, 700 * time.Millisecond, 0},
		{"full, nobody said", 2 * time.Second, 0, 500 * time.Millisecond, 0},
	} {
		l := NewLedger(Limits{TPM: 60_000}, start)
		now := start.Add(time.Hour)
		g := l.Start(doubtful, now)
		now = now.Add(test.after)
		l.View(now)
		if l.fresh != test.fresh {
			t.Errorf("%s: the variance is %v, want %v", test.name, l.fresh, test.fresh)
		}
		l.Start(fixed(1_000), now)
		now = now.Add(lag)
		l.Settle(g, 500, test.input, now)
		if got := l.quota[tokens].debt + lag; got != test.want {
			t.Errorf("%s: the debt is %v, want %v", test.name, got, test.want)
		}
		if l.fresh != 0 {
			t.Errorf("%s: a variance of %v is left", test.name, l.fresh)
		}
	}
}

// TestAFullBucketIsSureOfTheGrantThatEnds: what ends now may be off too.
func TestAFullBucketIsSureOfTheGrantThatEnds(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{TPM: 60_000}, start)
	now := start.Add(time.Hour)
	g := l.Start(Charge{Reserve: 2_000, Expect: 2_500, Input: 1_000, Doubt: 300}, now)
	l.Settle(g, 2_500, 1_600, now.Add(2100*time.Millisecond)) // it reserved 2,600
	if got, least := l.quota[tokens].debt, 400*time.Millisecond; got < least {
		t.Errorf("the debt is %v, the limiter's is %v", got, least)
	}
}

// TestForgottenGrant: more grants may be open than the ledger can tell apart;
// the count stays right.
func TestForgottenGrant(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{}, start)
	first := l.Start(fixed(1), start)
	for range openMost {
		l.Start(fixed(1), start)
	}
	l.Settle(first, 1, 0, start)
	if v := l.View(start); v.InFlight != openMost {
		t.Errorf("%d in flight, want %d", v.InFlight, openMost)
	}
}

// TestEvidenceOfWhatMayNotHaveBeenMet: a refund or a refusal that is heard of
// right after a start may have reached the limiter before it, so the start's
// accept proves that much less.
func TestEvidenceOfWhatMayNotHaveBeenMet(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		end  func(l *Ledger, g Grant, now time.Time)
		want time.Duration
	}{
		{"nothing ends", func(*Ledger, Grant, time.Time) {}, 3*time.Second - doubt},
		{"a refund", func(l *Ledger, g Grant, now time.Time) { l.Settle(g, 500, 0, now) }, 2500*time.Millisecond - doubt},
		{"a refusal", func(l *Ledger, g Grant, now time.Time) { l.Refuse(g, now) }, 2*time.Second - doubt},
	} {
		l := NewLedger(Limits{TPM: 60_000}, start)
		now := start.Add(time.Hour)
		l.Start(fixed(1_000), now)
		before := l.Start(fixed(1_000), now) // explores: the bucket of a second is empty
		l.explore.pace = 0
		now = now.Add(lag)
		l.Start(fixed(1_100), now) // meets 1.9 s of debt
		test.end(&l, before, now.Add(lag/2))
		l.View(now.Add(time.Second))
		if got := l.quota[tokens].burst; got != test.want {
			t.Errorf("%s: a bucket of %v is proved, want %v", test.name, got, test.want)
		}
	}
}
