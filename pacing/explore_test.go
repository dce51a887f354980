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

// What an exploration seemed to owe is forgotten when a bucket throttles it; an
// oversize charge of before is not.
func TestOversizeStaysOwed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		before      int64 // tokens, started just before
		least, most time.Duration
	}{
		{"an oversize charge", 600_000, 9 * time.Minute, 11 * time.Minute},
		{"other charges", 30_000, 9 * time.Second, 11 * time.Second},
	} {
		l := NewLedger(Limits{TPM: 60_000}, start)
		now := start.Add(time.Hour)
		l.advance(now)
		l.quota[tokens].burst, l.quota[tokens].window.kind = 10*time.Second, neither
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
	r := replica{cost: 1, burst: minute}
	r.charge(40 * time.Second) // of 60 s at a share of 1: 20 s are left
	for _, test := range []struct {
		by   float64
		left time.Duration // at that share
		at   float64
	}{{-0.5, 20 * time.Second, 0.5}, {0.5, 20 * time.Second, 1}, {-0.9, 6 * time.Second, 0.1}} {
		r.resize(test.by)
		if left := time.Duration(test.at*float64(r.burst)) - r.debt; (left - test.left).Abs() > time.Millisecond {
			t.Errorf("at a share of %v the bucket holds %v, want %v", test.at, left, test.left)
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
