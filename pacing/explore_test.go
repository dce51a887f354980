package pacing

import (
	"testing"
	"time"
)

// gated is a limiter that refuses a few requests for no reason of its own, as
// others who use the quota make it.
type gated struct {
	limiter
	refuse int
}

func (g *gated) admit(now time.Duration, id int, reserve float64) bool {
	if g.refuse > 0 && id > 0 {
		g.refuse--
		return false
	}
	return g.limiter.admit(now, id, reserve)
}

// A throttle that ends the exploration of the minute does not leave it standing
// for good: not for a whole quota, nor for a part of one, which is explored in
// no other way any more.
func TestTheMinuteIsExploredAgain(t *testing.T) {
	t.Parallel()
	for _, firm := range []bool{false, true} {
		s := scenario{configured: Limits{TPM: 400_000, Firm: firm}, work: over, lasts: 30 * time.Minute}
		far := &gated{limiter: &bucket{size: 10 * time.Second}}
		p := s.player(far, 1)
		disturbed := time.Duration(0)
		for now := time.Duration(0); now < s.lasts; now += time.Second {
			p.world.run(now)
			if e := &p.ledger.explore; disturbed == 0 && e.on && e.beyond == theMinute {
				disturbed, far.refuse = now, 3
			}
		}
		if disturbed == 0 {
			t.Errorf("firm %v: the minute was never explored", firm)
		}
		last := s.lasts - 5*time.Minute
		if n := p.outcome.sum(tokens, last, s.lasts); n < 0.95*5*400_000 {
			t.Errorf("firm %v: %.0f tokens in the last five minutes, want 95 %% of 2,000,000", firm, n)
		}
	}
}

// An exploration of the minute ends with the last minute that is refuted: a
// throttle of an hour later is not its doing.
func TestExplorationEndsWithTheMinute(t *testing.T) {
	t.Parallel()
	s := scenario{configured: Limits{TPM: 400_000}, work: over, lasts: 10 * time.Minute}
	p := s.player(&bucket{size: 3 * time.Second}, 1)
	explored := false
	for now := time.Duration(0); now < s.lasts; now += time.Second {
		p.world.run(now)
		e := &p.ledger.explore
		explored = explored || e.on && e.beyond == theMinute
		if e.on && e.beyond == theMinute && !p.ledger.minuteStands() {
			t.Fatalf("at %v the exploration of a minute goes on that is refuted", now)
		}
	}
	if !explored || p.ledger.minuteStands() {
		t.Errorf("explored %v; a minute stands: %v", explored, p.ledger.minuteStands())
	}
}

// A bucket that was never seen empty is explored beside a minute by the clock, which
// admits all of itself at once. What was refused otherwise does not end that for
// good; a bucket that is there does.
func TestBucketIsExploredBesideTheClock(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		far         limiter
		least, most time.Duration // believed of the bucket
	}{
		{"no bucket", &calendarMinute{of: map[int]bool{}}, 55 * time.Second, minute},
		{"a bucket of 50 s", &behind{bucket: bucket{size: 50 * time.Second}, minute: calendarMinute{of: map[int]bool{}}}, 40 * time.Second, 52 * time.Second},
	} {
		s := scenario{configured: Limits{TPM: 400_000}, work: over, lasts: 20 * time.Minute}
		p := s.player(test.far, 1)
		p.world.run(s.lasts)
		if b := p.ledger.quota[tokens].burst; b < test.least || b > test.most {
			t.Errorf("%s: a bucket of %v is believed in, want %v to %v", test.name, b, test.least, test.most)
		}
		if kind := p.ledger.quota[tokens].window.kind; kind != calendar {
			t.Errorf("%s: want a minute by the clock, believed is one%v", test.name, kind)
		}
		if rate := 1000 * float64(p.outcome.throttled) / float64(p.outcome.accepted); rate > 3 {
			t.Errorf("%s: %.1f throttles per 1,000, want 3 at most", test.name, rate)
		}
	}
}

// Beside a rolling minute a bucket is explored where it holds few jobs; and what that
// proved is forgotten when others are heard of.
func TestBucketIsExploredBesideARollingMinute(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		tpm  float64
		work work
		few  bool
	}{
		{10_000, honest, true},
		{400_000, honest, false},
	} {
		s := scenario{configured: Limits{TPM: test.tpm}, work: test.work, lasts: time.Hour}
		far := &gated{limiter: &rollingMinute{}}
		p := s.player(far, 1)
		p.world.run(s.lasts - 10*time.Minute)
		q := &p.ledger.quota[tokens]
		if explored := q.even > 0; explored != test.few || explored && q.burst < 40*time.Second || q.window.kind != rolling {
			t.Errorf("%.0f a minute: a %s is believed in, explored: %v, want %v", test.tpm, q.shape(), explored, test.few)
		}
		even := q.even
		far.refuse = 4
		p.world.run(s.lasts)
		if far.refuse > 0 || q.even > 0 || test.few && q.burst != even {
			t.Errorf("%.0f a minute: %d refusals are left, a %s is believed in, want what was before it was explored, %v", test.tpm, far.refuse, q.shape(), even)
		}
	}
}

// Nothing is known of a shape that was forgotten: no earlier bucket comes back with the
// next cut.
func TestForgottenIsForgotten(t *testing.T) {
	t.Parallel()
	l := NewLedger(Limits{TPM: 10_000}, start)
	q := &l.quota[tokens]
	q.burst, q.even = 50*time.Second, 20*time.Second
	l.forget()
	q.evenly()
	if q.burst != smallest {
		t.Errorf("a bucket of %v is believed in, want %v", q.burst, smallest)
	}
}

func TestEvenlyKeepsWhatThereIs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		kind        minuteKind
		debt        time.Duration
		burst, left time.Duration // after
	}{
		{rolling, 45 * time.Second, 20 * time.Second, 5 * time.Second},
		{rolling, 5 * time.Second, 20 * time.Second, 20 * time.Second},
		{rolling, -3 * time.Second, 20 * time.Second, 23 * time.Second}, // it has been full for 3 s, and still is
		{calendar, 45 * time.Second, 50 * time.Second, 5 * time.Second}, // its bucket is explored beside that, too
	} {
		r := replica{cost: 1, burst: 50 * time.Second, even: 20 * time.Second, debt: test.debt, took: time.Second}
		r.window.kind = test.kind
		for range 2 {
			r.evenly()
			if r.burst != test.burst || r.burst-r.debt != test.left || r.even != 0 || r.took != time.Second {
				t.Errorf("%v of debt%s: burst %v, left %v, even %v, took %v; want %v, %v, 0s, 1s",
					test.debt, test.kind, r.burst, r.burst-r.debt, r.even, r.took, test.burst, test.left)
			}
		}
	}
}

// A flight of an exploration beyond a bucket is paid for as any other, beside what
// is owed already, and only starts that went beyond it say that there is one.
func TestFlightBeyondTheBucket(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		before  int64 // tokens, of a bucket that is known to hold 10,000
		refused bool
		owed    int
	}{
		{"beyond it", 9_900, true, 4_800 + 3*explorePrice},
		{"within it", 0, false, 4_800},
	} {
		l := NewLedger(Limits{TPM: 60_000}, start)
		now := start.Add(time.Hour)
		l.advance(now)
		l.quota[tokens].burst, l.quota[tokens].window.kind = 10*time.Second, calendar
		l.explore = exploration{on: true, beyond: theBucket, from: l.now, rounds: 2, owed: 4_800, tried: [2]bool{theMinute: true}}
		l.Start(fixed(test.before), now)
		var flight []Grant
		for range 3 {
			now = now.Add(time.Millisecond)
			l.explore.pace = 0
			if at := l.When(fixed(500), now); at.After(now) {
				t.Fatalf("%s: a start waits %v", test.name, at.Sub(now))
			}
			flight = append(flight, l.Start(fixed(500), now))
		}
		for _, g := range flight {
			l.Refuse(g, now.Add(50*time.Millisecond))
		}
		if l.explore.on || l.explore.owed != test.owed || l.explore.tried[theBucket] != test.refused {
			t.Errorf("%s: on %v, %d are owed, a bucket refused: %v; want false, %d, %v",
				test.name, l.explore.on, l.explore.owed, l.explore.tried[theBucket], test.owed, test.refused)
		}
	}
}

// An exploration that is refused in a clock's minute which we have filled leaves what
// the bucket beside it holds, for the minute's turn.
func TestFullMinuteExplainsARefusal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		taken  int64 // tokens, of 60,000 a minute, at its begin
		beyond bool
		scope  scope
		kind   minuteKind
		left   time.Duration
	}{
		{"a full minute", 60_000, true, everything, calendar, 40 * time.Second},
		{"one with room", 50_000, true, everything, calendar, 500 * time.Millisecond},
		{"one that is explored alone", 60_000, true, theMinute, calendar, 500 * time.Millisecond},
		{"a rolling one", 60_000, true, everything, rolling, 500 * time.Millisecond},
		{"a start that was safe", 60_000, false, everything, calendar, 500 * time.Millisecond},
	} {
		l := NewLedger(Limits{TPM: 60_000}, start.Truncate(minute))
		now := start.Truncate(minute).Add(time.Hour + time.Second)
		l.advance(now)
		q := &l.quota[tokens]
		q.burst, q.debt, q.window.kind = minute, 0, test.kind
		l.settle(l.Start(fixed(test.taken), now), test.taken, test.taken, l.now)
		now = now.Add(40 * time.Second)
		l.advance(now)
		q.debt = 20 * time.Second // of which the refused one is none
		g := l.Start(fixed(1_000), now)
		g.beyond = test.beyond
		l.explore = exploration{on: true, beyond: test.scope, from: l.now, rounds: 2}
		l.Refuse(g, now.Add(50*time.Millisecond))
		if left := q.burst - q.debt; (left - test.left).Abs() > 100*time.Millisecond {
			t.Errorf("%s: the bucket holds %v, want %v", test.name, left, test.left)
		}
	}
}

// An exploration by the clock begins when the pace has caught up with what the
// minute took at its turn: at once, where that was at the pace already.
func TestExplorationCatchesUpWithTheMinute(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		top   float64
		taken time.Duration // in the first ten seconds of the minute
		after time.Duration // of its begin
	}{
		{"all of a quota at the turn", 1, 59 * time.Second, 29800 * time.Millisecond},
		{"its pace", 1, 10 * time.Second, 10 * time.Second},
		{"a raised quota at its pace", 1.98, 20 * time.Second, 10 * time.Second},
	} {
		l := NewLedger(Limits{TPM: 60_000}, start.Truncate(minute))
		turn := start.Truncate(minute).Add(time.Hour)
		l.advance(turn.Add(-time.Second))
		l.share.top, l.current = test.top, test.top
		l.quota[tokens].window.kind = calendar
		l.explore = exploration{rounds: 2}
		l.Start(fixed(int64(test.taken/time.Millisecond)), turn.Add(150*time.Millisecond))
		now := turn.Add(10 * time.Second)
		l.advance(now)
		at, beyond := l.explore.when(&l, permits{all: never})
		if got := l.epoch.Add(at).Sub(turn); beyond != everything || (got-test.after).Abs() > 100*time.Millisecond {
			t.Errorf("%s: after %v, beyond %d, want %v", test.name, got, beyond, test.after)
		}
	}
}

// A minute by the clock is given up for a rolling one by a throttle while it had
// room, not by one when it was full to an estimate.
func TestClockIsDoubtedWhileItHasRoom(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		taken int64 // tokens, of 60,000
		want  minuteKind
	}{{30_000, rolling}, {59_400, calendar}} {
		l := NewLedger(Limits{TPM: 60_000}, start.Truncate(minute))
		l.explore.due = never
		l.quota[tokens].burst, l.quota[tokens].window.kind = minute, calendar
		turn := start.Truncate(minute).Add(time.Hour)
		l.Start(fixed(50_000), turn.Add(-5*time.Second))
		l.Start(fixed(test.taken), turn.Add(5*time.Second))
		g := l.Start(fixed(500), turn.Add(6*time.Second))
		l.Refuse(g, turn.Add(6*time.Second+50*time.Millisecond))
		if got := l.quota[tokens].window.kind; got != test.want {
			t.Errorf("after %d tokens and a throttle one%v is believed in, want%v", test.taken, got, test.want)
		}
	}
}

// What an exploration seemed to owe is forgotten when a bucket throttles it; an
// oversize charge of before is not, if it was accepted.
func TestOversizeStaysOwed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		refused     int64 // tokens, started earlier and throttled
		before      int64 // tokens, started just before
		least, most time.Duration
	}{
		{"an oversize charge", 0, 600_000, 9 * time.Minute, 11 * time.Minute},
		{"other charges", 0, 30_000, 9 * time.Second, 11 * time.Second},
		{"other charges, after an oversize one was refused", 600_000, 30_000, 9 * time.Second, 11 * time.Second},
	} {
		l := NewLedger(Limits{TPM: 60_000}, start)
		now := start.Add(time.Hour)
		l.advance(now)
		l.quota[tokens].burst, l.quota[tokens].window.kind = 10*time.Second, neither
		if test.refused > 0 {
			l.Refuse(l.Start(fixed(test.refused), now), now.Add(50*time.Millisecond))
			now = now.Add(oversizeEvery + time.Second)
			l.advance(now)
			l.recovery.on = false
		}
		l.explore.rounds, l.explore.due = 2, 0
		l.Start(fixed(test.before), now)
		small := fixed(500)
		now = now.Add(100 * time.Millisecond)
		if at := l.When(small, now); at.After(now) {
			t.Errorf("%s: no exploration for %v", test.name, at.Sub(now))
		}
		g := l.Start(small, now)
		l.Refuse(g, now.Add(30*time.Millisecond))
		if debt := l.quota[tokens].debt; debt < test.least || debt > test.most {
			t.Errorf("%s: %v are owed after the throttle, want %v to %v", test.name, debt, test.least, test.most)
		}
	}
}

// A bucket that believes in a larger part of the quota holds no more for that.
func TestShareEarnsNothingAtOnce(t *testing.T) {
	t.Parallel()
	type step struct {
		share float64
		left  time.Duration
	}
	for _, test := range []struct {
		burst, charged time.Duration
		steps          []step
	}{
		{minute, 40 * time.Second, []step{{0.5, 20 * time.Second}, {1, 20 * time.Second}, {0.1, 20 * time.Second}, {2, 20 * time.Second}}},
		{smallest, 600 * time.Millisecond, []step{{0.5, 400 * time.Millisecond}, {0.1, 100 * time.Millisecond}}},
	} {
		r := replica{cost: 1, burst: test.burst}
		r.charge(test.charged)
		was := 1.0
		for _, step := range test.steps {
			r.resize(was, step.share)
			if left := r.capacity(step.share) - r.debt; (left - step.left).Abs() > time.Millisecond {
				t.Errorf("a bucket of %v holds %v at a share of %v, want %v", test.burst, left, step.share, step.left)
			}
			was = step.share
		}
	}
}

// What accepts have proved of a bucket, others who take a part of the rate leave;
// but for the smallest, which nothing proved.
func TestCapacityIsNotShared(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		burst time.Duration
		share float64
		want  time.Duration
	}{
		{smallest, 1, smallest},
		{smallest, 0.25, smallest / 4},
		{3 * time.Second, 1, 3 * time.Second},
		{3 * time.Second, 0.5, 2500 * time.Millisecond},
		{minute, 0.1, 59100 * time.Millisecond},
		{3 * time.Second, 2, 6 * time.Second}, // of a raised quota
	} {
		r := replica{burst: test.burst}
		if got := r.capacity(test.share); (got - test.want).Abs() > time.Microsecond {
			t.Errorf("a bucket of %v at a share of %v holds %v, want %v", test.burst, test.share, got, test.want)
		}
	}
}

// A quota that was found to be higher is not known exactly: a clock's minute of
// it is refuted by what no doubt about that explains.
func TestMinuteOfARaisedQuotaIsRefutedLater(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		top     float64
		charged time.Duration
		refuted bool
	}{
		{1, minute + doubtMinute, false},
		{1, minute + doubtMinute + time.Second, true},
		{explorePace, 2 * minute, false},
		{explorePace, 2*minute + 3*time.Second, true},
	} {
		l := NewLedger(Limits{TPM: 60_000}, start)
		l.share.top = c.top
		l.quota[tokens].window.kind = calendar
		w := witness{kind: [...]minuteKind{tokens: calendar}, charged: [...]time.Duration{tokens: c.charged - time.Second}}
		w.charge[tokens] = time.Second
		l.learn(&w)
		if refuted := l.quota[tokens].window.kind != calendar; refuted != c.refuted {
			t.Errorf("at %v of the quota %v in a minute refute it: %v, want %v", c.top, c.charged, refuted, c.refuted)
		}
	}
}

// What a share that was cut a moment ago would explore, others may still hold.
func TestNothingIsExploredSoonAfterACut(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		level    float64
		whole    time.Duration // for so long
		explores bool
	}{
		{"whole for a moment", 0, exploreQuiet - time.Second, false},
		{"whole for long", 0, exploreQuiet + time.Second, true},
		{"cut", 0.5, time.Hour, false},
	} {
		l := NewLedger(Limits{RPM: 300}, start)
		l.explore.rounds = 2
		now := l.advance(start.Add(time.Hour))
		if l.share.whole = now - test.whole; test.level > 0 {
			l.share.level, l.current = test.level, test.level
		}
		at, _ := l.explore.when(&l, permits{buckets: never, minutes: never, all: never})
		if explores := at <= now; explores != test.explores {
			t.Errorf("%s: explores: %v, want %v", test.name, explores, test.explores)
		}
	}
}
