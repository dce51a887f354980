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
		{"creeps to the level of the cut", []cutAt{{100 * s, 9}}, 101 * s, 0.9875},
		{"whole after the hold", []cutAt{{100 * s, 9}}, 103 * s, 1},
		{"a second flight cuts more", []cutAt{{100 * s, 9}, {101 * s, 9}}, 101 * s, 0.79},
		{"a stalled minute cuts to what was used", []cutAt{{100 * s, 0.6}}, 100 * s, 0.54},
		{"but by half at most", []cutAt{{100 * s, 0.1}}, 100 * s, 0.45},
		{"grows beyond the level", []cutAt{{100 * s, 0.5}}, 104 * s, 1},
		{"faster and faster", []cutAt{{100 * s, 0.5}}, 103 * s, 0.5625},
	} {
		sh := share{top: 1}
		for _, c := range test.cuts {
			sh.cut(c.at, c.used, s, 0)
		}
		if got := sh.at(test.at); math.Abs(got-test.want) > 0.001 {
			t.Errorf("%s: share is %.4f, want %.4f", test.name, got, test.want)
		}
	}
}

// The hold grows with the age of the trouble up to the time of so many
// successes, and starts small again where the share had been good for longer
// than the limiter remembers.
func TestShareHold(t *testing.T) {
	t.Parallel()
	const memory = 10 * time.Second
	for _, test := range []struct {
		name      string
		age, gap  time.Duration // of the trouble, and since the last cut
		held      time.Duration // after that cut
		level     float64       // of the last cut; 0 for whole
		successes int           // since then
		want      time.Duration
	}{
		{"young", 4 * time.Second, 3 * time.Second, holdFirst, 0.5, 9, holdFirst},
		{"older", 10 * time.Second, 3 * time.Second, holdFirst, 0.5, 9, 5 * time.Second},
		{"old, slow route", time.Hour, 20 * time.Second, 20 * time.Second, 0.5, 9, holdMost},
		{"old, fast route", time.Hour, 20 * time.Second, 20 * time.Second, 0.5, 999, holdLeast},
		{"old, between", time.Hour, 20 * time.Second, 20 * time.Second, 0.5, 49, 40 * time.Second},
		{"whole, but on what was saved", time.Hour, 12 * time.Second, holdFirst, 0, 999, holdLeast},
		{"whole for longer", time.Hour, 13 * time.Second, holdFirst, 0, 999, holdFirst},
		{"far above the level", time.Hour, 13 * time.Second, holdFirst, 0.2, 999, holdFirst},
	} {
		now := 2 * time.Hour
		s := share{
			top: 1, level: test.level, depth: cut, hold: test.held, tally: test.successes,
			since: now - test.age, cutAt: now - test.gap,
		}
		if s.cut(now, 1, memory, 0); s.hold != test.want {
			t.Errorf("%s: hold is %v, want %v", test.name, s.hold, test.want)
		}
	}
}

func TestRaisedShareIsLostByACut(t *testing.T) {
	t.Parallel()
	s := share{top: 2}
	s.cut(time.Hour, 1.5, 0, 0)
	if s.top != 1.5 {
		t.Errorf("top is %v after a cut from 2 to 1.5 in use, want 1.5", s.top)
	}
	s.cut(time.Hour+time.Minute, 0.1, 0, 0)
	if s.top != 1 {
		t.Errorf("top is %v after a cut below the quota, want 1", s.top)
	}
}
