package pacing

import (
	"math"
	"time"
)

const (
	// cut is the part of the share that a flight of throttles takes; each
	// further flight within cutAgain takes as much more, up to cutMost. Too
	// small: more flights until the level is found. Too large: goodput (at 0.2,
	// 2 % on small buckets when the quota is half of what was configured).
	cut     = 0.1
	cutMost = 0.3
	// cutAgain tells a second flight that the first cut could not yet prevent
	// from a new finding.
	cutAgain = 5 * time.Second
	// The hold is how long the share creeps back to the level of the last
	// throttle before it tries more. A trouble that is young may be over as soon,
	// one that has lasted will last: the hold is to the trouble's age as that is
	// to holdAge, and holdFirst at least. Too small: throttles of a steady
	// neighbour's first minute. Too large: bursts of a neighbour cost the time
	// between them too (60 % of the goodput on small buckets at 5 s).
	holdFirst = 2 * time.Second
	holdAge   = 20 * time.Second
	// It is at most the time of holdPrice successes, between holdLeast and
	// holdMost. Too small: throttles (one for each price). Too large: slow return
	// after a neighbour (127 s at 120 s).
	holdPrice = 100
	holdLeast = 15 * time.Second
	holdMost  = 60 * time.Second
	// growth is the time that it takes beyond the hold to double, or the hold
	// where that is less; or, where a minute had been used up, the time in which
	// nothing was accepted then, or it is used up again as early. Too small:
	// overshoots by what detection lags. Too large: slow return.
	growth = 10 * time.Second
	// usedLeast bounds what a cut may take because less was in use. Too small:
	// a throttle after idle time costs the share. Too large: more stalls until
	// a rolling minute's level is found.
	usedLeast = 0.5
	// shareLeast keeps every wait finite. Too small: hours until the next start
	// says that the quota is free again. Too large: throttles while somebody
	// else has nearly all of it.
	shareLeast = 0.01
)

// share is the part of the quota that is ours to use. A flight of throttles
// cuts it once; then it creeps back to where it was, and grows faster from
// there on.
type share struct {
	top   float64 // 1, or what exploration found the quota to be
	level float64 // where the last throttle was met; 0 while whole
	depth float64 // the part of level that the last cut took
	cutAt time.Duration
	cuts  int // in a row
	hold  time.Duration
	grow  time.Duration
	since time.Duration // when this trouble began
	whole time.Duration // since when it is whole
	tally int           // successes since the last cut
}

// at returns the share at a time, and makes it whole when it has grown there.
func (s *share) at(now time.Duration) float64 {
	if s.level == 0 {
		return s.top
	}
	part := func(d, of time.Duration) float64 { return float64(d) / float64(of) }
	v, t := s.level, now-s.cutAt
	if t < s.hold {
		v *= 1 - s.depth*math.Pow(1-part(t, s.hold), 3)
	} else {
		v *= 1 + math.Pow(part(t-s.hold, s.grow), 3)
	}
	if v >= s.top && t >= s.hold {
		s.level, s.whole = 0, now
		return s.top
	}
	return max(v, shareLeast)
}

// cut takes a part of the share, starting from what was in use. memory is for how
// long the limiter may admit more than its rate out of what it has saved, stall
// for how long it has last admitted nothing.
func (s *share) cut(now time.Duration, used float64, memory, stall time.Duration) {
	v := s.at(now)
	if s.cuts++; s.level == 0 || now-s.cutAt > cutAgain {
		s.cuts = 1
	}
	switch {
	case (s.level == 0 || v > 1.5*s.level) && now-s.cutAt-s.hold > memory:
		s.since = now // so far above it for so long, this is somebody new
	case s.level > 0 && v > s.level:
		v = (s.level + v) / 2 // the truth lies between the two
	}
	v = max(min(v, used), v*usedLeast)
	if v < s.top {
		s.top = max(1, v) // what was found above the quota is lost
	}
	age := float64(now - s.since)
	longest := float64(now-s.cutAt) * holdPrice / float64(s.tally+1)
	longest = min(max(longest, float64(holdLeast)), float64(holdMost))
	s.hold = time.Duration(min(max(age*age/float64(holdAge), float64(holdFirst)), longest))
	s.grow = max(min(s.hold, growth), stall)
	s.depth = min(cut*float64(s.cuts), cutMost)
	s.level, s.cutAt, s.tally = v, now, 0
}
