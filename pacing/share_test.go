package pacing

import (
	"math"
	"testing"
	"time"
)

func TestShare(t *testing.T) {
	t.Parallel()
	const s = time.Second
	type cutAt struct {
		at   time.Duration
		used float64
	}
	for _, test := range []struct {
		name string
		cuts []cutAt
		at   time.Duration
		want float64
	}{
		{"whole", nil, 100 * s, 1},
		{"cut by a tenth", []cutAt{{100 * s, 9}}, 100 * s, 0.9},
		{"creeps to the level of the cut", []cutAt{{100 * s, 9}}, 101 * s, 0.9784},
		{"whole after the hold", []cutAt{{100 * s, 9}}, 103 * s, 1},
		{"a second flight cuts more", []cutAt{{100 * s, 9}, {101 * s, 9}}, 101 * s, 0.7827},
		{"a stalled minute cuts to what was used", []cutAt{{100 * s, 0.6}}, 100 * s, 0.54},
		{"but by half at most", []cutAt{{100 * s, 0.1}}, 100 * s, 0.45},
		{"grows beyond the level", []cutAt{{100 * s, 0.5}}, 106 * s, 1},
		{"faster and faster", []cutAt{{100 * s, 0.5}}, 104 * s, 0.608},
	} {
		sh := share{top: 1}
		for _, c := range test.cuts {
			sh.heed(c.at, finding{})
			sh.cut(c.at, finding{burst: minute}, c.used)
		}
		if got := sh.at(test.at); math.Abs(got-test.want) > 0.001 {
			t.Errorf("%s: share is %.4f, want %.4f", test.name, got, test.want)
		}
	}
}

// A throttle that says what was ours takes the level there; one that says that
// it does not fall keeps the level up.
func TestShareFollowsFindings(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, test := range []struct {
		name      string
		share     float64 // where the throttle came
		was, part float64 // the findings of the last and of this one
		want      float64 // level
		weight    float64 // of this one
	}{
		{"most of the way down", 0.8, 0.9, 0.4, 0.452, nearer},
		{"a moment", 0.8, 0.9, 0.4, 0.626, nearer / 2},
		{"a moment tells not that it does not fall", 0.3, 0.4, 0.4, 0.3, nearer / 2},
		{"from the first on", 1, 0.9, 0.4, 0.478, nearer},
		{"not below what does not fall", 0.3, 0.4, 0.4, 0.38, nearer},
		{"nor above the last level", 0.3, 0.9, 0.95, 0.5, nearer},
		{"not below the least share", 0.015, 0.5, 0, shareLeast, nearer},
		{"falling", 0.3, 0.5, 0.4, 0.3, nearer},
	} {
		// Long after the hold of 15 s, or within it, at the share of the test.
		sh := share{top: 1, level: test.share, grow: s, hold: 100 * s, cutAt: 1000 * s}
		if test.share < 0.5 {
			sh.level, sh.depth = 0.5, 1-test.share/0.5
		} else if test.share == 1 {
			sh.level = 0
		}
		f := finding{known: true, over: brief, part: test.part, weight: test.weight}
		sh.heed(1000*s, finding{known: true, over: brief, part: test.was, weight: nearer})
		sh.heed(1000*s, f)
		sh.cut(1000*s, f, 9)
		if math.Abs(sh.level-test.want) > 0.001 {
			t.Errorf("%s: level is %.3f, want %.3f", test.name, sh.level, test.want)
		}
	}
}

// The hold grows with the age of the trouble up to the time of so many
// successes, and starts small again where the others had gone meanwhile.
func TestShareHold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		age, gap  time.Duration // of the trouble, and since the last cut
		level     float64       // of the last cut; 0 for whole
		successes int           // since then
		found     finding
		want      time.Duration
	}{
		{"young", 4 * time.Second, 3 * time.Second, 0.5, 9, finding{}, holdFirst},
		{"older", 17 * time.Second, 3 * time.Second, 0.5, 9, finding{}, holdAge},
		{"old, slow route", time.Hour, 20 * time.Second, 0.5, 9, finding{}, holdMost},
		{"older than that by far", 1000 * time.Hour, 20 * time.Second, 0.5, 9, finding{}, holdMost},
		{"old, fast route", time.Hour, 20 * time.Second, 0.5, 999, finding{}, holdLeast},
		{"old, between", time.Hour, 20 * time.Second, 0.5, 49, finding{}, 40 * time.Second},
		{"whole, and nothing known", time.Hour, 200 * time.Second, 0, 999, finding{}, holdFirst},
		{"whole, but not ours", time.Hour, 20 * time.Second, 0, 999, finding{known: true, over: 20 * time.Second, offered: 0.9, part: 0.5}, holdLeast},
		{"whole, and ours", time.Hour, 20 * time.Second, 0, 999, finding{known: true, over: 20 * time.Second, offered: 0.9, part: 0.8}, holdFirst},
		{"ours, by luck", time.Hour, 20 * time.Second, 0, 999, finding{known: true, over: 2 * time.Second, offered: 0.9, part: 0.8}, holdLeast},
		{"hardly above the level", time.Hour, 20 * time.Second, 0.5, 999, finding{known: true, over: 20 * time.Second, offered: 0.55, part: 0.54}, holdLeast},
		{"not above the level", time.Hour, 20 * time.Second, 0.5, 999, finding{known: true, over: 20 * time.Second, offered: 0.45, part: 0.5}, holdLeast},
	} {
		now := 2 * time.Hour
		s := share{
			top: 1, level: test.level, met: 0.5, depth: cut, hold: holdFirst, tally: test.successes,
			since: now - test.age, cutAt: now - test.gap,
		}
		s.heed(now, test.found)
		if s.cut(now, test.found, 1); s.hold != test.want {
			t.Errorf("%s: hold is %v, want %v", test.name, s.hold, test.want)
		}
	}
}

// A first flight's cut gives back no more than a part of the bucket.
func TestCutOfASmallBucket(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		age   time.Duration
		level float64
		burst time.Duration
		cuts  int // before
		want  float64
	}{
		{"young", 4 * time.Second, 0.5, time.Second, 0, cut},
		{"old", time.Hour, 0.5, time.Second, 0, 1.5 / 33},
		{"old, a larger bucket", time.Hour, 0.5, 10 * time.Second, 0, cut},
		{"old, and less of it ours", time.Hour, 0.25, time.Second, 0, 3.0 / 33},
		{"old, of a raised quota", time.Hour, 2, time.Second, 0, 0.75 / 33},
		{"old, but the second flight", time.Hour, 0.5, time.Second, 1, 2 * cut},
	} {
		now := 2 * time.Hour
		s := share{
			top: max(1, 1.5*test.level), level: test.level, met: test.level, hold: holdFirst, grow: holdFirst, cuts: test.cuts,
			since: now - test.age, cutAt: now - holdFirst,
		}
		if s.cut(now, finding{burst: test.burst}, 1); !(math.Abs(s.depth-test.want) <= 1e-9) {
			t.Errorf("%s: the depth is %v, want %v", test.name, s.depth, test.want)
		}
	}
}

func TestRaisedShareIsLostByACut(t *testing.T) {
	t.Parallel()
	s := share{top: 2}
	s.cut(time.Hour, finding{}, 1.5)
	if s.top != 1.5 {
		t.Errorf("top is %v after a cut from 2 to 1.5 in use, want 1.5", s.top)
	}
	s.cut(time.Hour+time.Minute, finding{}, 0.1)
	if s.top != 1 {
		t.Errorf("top is %v after a cut below the quota, want 1", s.top)
	}
}

// A throttle soon after the share is whole again is no slip where much is admitted at
// once: that hid that the share was too large.
func TestWholeAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		burst time.Duration
		cut   bool          // it was, before
		whole time.Duration // for so long
		slips bool
	}{
		{"lately", 10 * time.Second, true, 10 * time.Second, false},
		{"for long", 10 * time.Second, true, 2 * time.Minute, true},
		{"never cut", 10 * time.Second, false, 10 * time.Second, true},
		{"a small bucket", time.Second, true, 10 * time.Second, true},
	} {
		l := NewLedger(Limits{RPM: 300}, start)
		now := start.Add(time.Hour)
		l.advance(now)
		l.explore.due = never
		l.quota[requests].burst, l.quota[requests].window.kind = test.burst, neither
		if test.cut {
			l.share.met = 0.5
		}
		l.share.whole = l.now - test.whole
		l.Refuse(l.Start(fixed(0), now), now.Add(50*time.Millisecond))
		if slips := l.current == 1; slips != test.slips {
			t.Errorf("%s: the throttle is a slip: %v, want %v", test.name, slips, test.slips)
		}
	}
}
