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
		{"creeps to the level of the cut", []cutAt{{100 * s, 9}}, 103 * s, 0.998},
		{"whole after the hold", []cutAt{{100 * s, 9}}, 105 * s, 1},
		{"a second flight cuts more", []cutAt{{100 * s, 9}, {101 * s, 9}}, 101 * s, 0.766},
		{"a stalled minute cuts to what was used", []cutAt{{100 * s, 0.6}}, 100 * s, 0.54},
		{"but by half at most", []cutAt{{100 * s, 0.1}}, 100 * s, 0.45},
		{"grows beyond the level", []cutAt{{100 * s, 0.5}}, 114 * s, 1},
		{"faster and faster", []cutAt{{100 * s, 0.5}}, 109 * s, 0.5625},
	} {
		sh := share{top: 1}
		for _, c := range test.cuts {
			sh.cut(c.at, c.used)
		}
		if got := sh.at(test.at); math.Abs(got-test.want) > 0.001 {
			t.Errorf("%s: share is %.4f, want %.4f", test.name, got, test.want)
		}
	}
}

// The hold doubles while throttles go on, in time or in successes, and starts
// small again after a calm.
func TestShareHold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		successes int // between two cuts, which are 20 s apart
		want      time.Duration
	}{
		{"slow route", 10, holdMost},
		{"fast route", 1_000, holdLeast},
		{"between", 39, 40 * time.Second},
	} {
		s, now := share{top: 1}, time.Hour
		for range 6 {
			s.tally = test.successes
			s.cut(now, 1)
			s.cutAt -= s.hold - 20*time.Second // as if the hold were over by then
			now += 20 * time.Second
			s.hold = min(s.hold, holdMost)
		}
		s.cutAt = now - 20*time.Second
		s.tally = test.successes
		s.level = 0.5 // no new episode
		s.cut(now, 1)
		if s.hold != test.want {
			t.Errorf("%s: hold is %v, want %v", test.name, s.hold, test.want)
		}
	}

	s := share{top: 1, hold: holdMost, whole: 0}
	s.at(calm + 1)
	if s.cut(calm+2, 1); s.hold != holdFirst {
		t.Errorf("after a calm the hold is %v, want %v", s.hold, holdFirst)
	}
}

func TestRaisedShareIsLostByACut(t *testing.T) {
	t.Parallel()
	s := share{top: 2}
	s.cut(time.Hour, 1.5)
	if s.top != 1.5 {
		t.Errorf("top is %v after a cut from 2 to 1.5 in use, want 1.5", s.top)
	}
	s.cut(time.Hour+time.Minute, 0.1)
	if s.top != 1 {
		t.Errorf("top is %v after a cut below the quota, want 1", s.top)
	}
}
