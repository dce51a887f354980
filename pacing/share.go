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
	// overdrawn is the part of a bucket that the cut for a first flight gives back
	// until the share is at its level again: a small bucket is hardly owed more. Too
	// small: the next flight comes at once (a quarter more throttles, for a cut of 5 %
	// in its place, on a bucket of 1 s of which a neighbour takes four fifths). Too
	// large: goodput (with a quota that is half of what was configured, 94.5 in place
	// of 95 % there at 0.5).
	overdrawn = 0.375
	// cutAgain tells a second flight that the first cut could not yet prevent
	// from a new finding.
	cutAgain = 5 * time.Second
	// The hold is how long the share creeps back to the level of the last
	// throttle before it tries more. A trouble that is young may be over as soon,
	// one that has lasted will last: the hold is age³/holdAge², of the trouble's age,
	// and holdFirst at least. Too small: throttles of a steady
	// neighbour's first minute. Too large: bursts of a neighbour cost the time
	// between them too (60 % of the goodput on small buckets at 5 s).
	holdFirst = 2500 * time.Millisecond
	holdAge   = 17 * time.Second
	// It is at most the time of holdPrice successes, between holdLeast and
	// holdMost. Too small: throttles (one for each price; with 60 s at most, one too
	// many in the five minutes after a quota was halved). Too large: slow return after
	// a neighbour (127 s at 120 s).
	holdPrice = 100
	holdLeast = 15 * time.Second
	holdMost  = 66 * time.Second
	// growth is the time that it takes beyond the hold to double, or the hold
	// where that is less. Too small: overshoots by what a limiter remembers (at
	// 10 s, beside a neighbour that takes four fifths of a rolling minute, twice
	// the throttles). Too large: slow return.
	growth = 25 * time.Second
	// nearer is how far a throttle that says what was ours takes the level there, from
	// the share at which it came. Too small: throttles until it is found (at 0.7, 20
	// per 1,000 for 16 after the quota was halved, on a bucket). Too large: chance is
	// taken for it, and a quota that was cut is not seen to be that, since the minute
	// never stays full for long (at 0.95, on a bucket of 1 s 90 % where this has 95, and
	// on a minute five times the throttles).
	nearer = 0.87
	// A finding about less than brief, or than the quota takes for one request, weighs
	// as much less: the settlements of jobs that were started before are most of it. Too
	// small: the level falls too far, and is asked again the sooner. Too large: what a
	// neighbour took in his first seconds is not seen (4 throttles for each at 5 s).
	brief = 1500 * time.Millisecond
	// clearly is how far above the last level the share must have been, on average,
	// for a throttle to tell that the others had gone. Too small: half of a small
	// excess is luck, and a steady neighbour is asked again within seconds (on a
	// bucket of 2 s, with four fifths taken, up to twice the throttles at 1). Too
	// large: bursts of a neighbour are one long trouble.
	clearly = 1.25
	// sure is the part of what was ours that a cut leaves, where that has not
	// fallen, by more than chance, since the throttle before. Too small: while an
	// overshoot is worked off, throttles go on and cost share (over-reserved work
	// on a rolling minute beside a neighbour: 82 % at 0, 95 at this). Too large: it
	// takes longer.
	sure = 0.95
	// chance is the part by which a finding must be below the last one to count as
	// fallen. Too small: nothing is ever taken not to fall. Too large: a
	// neighbour that comes slowly is not followed.
	chance = 0.01
	// lately is for how long a share that is whole again counts as one that was cut,
	// where much can be admitted at once: a large bucket hides for as long that we
	// take more than what is ours. Too small: the throttles until it is found are
	// taken for slips (23 per 1,000 in place of 20 on a bucket of 60 s, with a quota
	// that is half of what was configured). Too large: slips cost share, for a
	// neighbour of an hour ago.
	lately = minute
	// usedLeast bounds what a cut may take because less was in use, and how far a
	// quota is believed to have been cut. Too small: a throttle after idle time costs
	// the share, and a neighbour is taken for a cut quota. Too large: more stalls until
	// a rolling minute's level is found, or that of one that was halved.
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
	level float64 // what the share creeps back to after the last cut; 0 while whole
	met   float64 // the level of the last cut
	part  float64 // what was ours by the last finding
	least float64 // no finding takes the level below it
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

// wasCut reports whether the share is cut, or was lately.
func (s *share) wasCut(now time.Duration) bool {
	return s.level > 0 || s.met > 0 && now-s.whole < lately
}

// heed takes what a throttle says of the time before it. Where more was ours than
// would have been at the last level, the others had gone, and the trouble is
// new.
func (s *share) heed(now time.Duration, f finding) {
	lasting := f.known && f.over > steady && f.offered > s.met*clearly
	if !f.known && s.level == 0 || lasting && f.part > (f.offered+s.met)/2 {
		s.since = now
	}
	if s.least = 0; !f.known || f.weight < nearer {
		return
	}
	if f.part > s.part*(1-chance) {
		s.least = sure * f.part
	}
	s.part = f.part
}

// cut takes a part of the share, starting from what was in use, and from what
// was found to be ours.
func (s *share) cut(now time.Duration, f finding, used float64) {
	v := s.at(now)
	if s.cuts++; s.level == 0 || now-s.cutAt > cutAgain {
		s.cuts = 1
	}
	if f.known {
		v = min(max(v-f.weight*max(v-f.part, 0), s.least), max(v, s.level))
	}
	v = max(min(v, used), v*usedLeast, shareLeast)
	if v < s.top {
		s.top = max(1, v) // what was found above the quota is lost
	}
	longest := float64(now-s.cutAt) * holdPrice / float64(s.tally+1)
	longest = min(max(longest, float64(holdLeast)), float64(holdMost))
	s.wait(min(holdFor(now-s.since), time.Duration(longest)))
	if s.depth = min(cut*float64(s.cuts), cutMost); s.cuts == 1 {
		const unused = 0.25 // of the depth, on average, until the level is reached
		s.depth = min(s.depth, overdrawn/unused*s.top*float64(f.burst)/(v*float64(s.hold)))
	}
	s.level, s.met, s.cutAt, s.tally = v, v, now, 0
}

// holdFor returns how long a trouble of that age is held.
func holdFor(age time.Duration) time.Duration {
	hold := float64(age) * math.Pow(float64(age)/float64(holdAge), 2)
	return time.Duration(min(max(hold, float64(holdFirst)), float64(holdMost)))
}

func (s *share) wait(hold time.Duration) { s.hold, s.grow = hold, min(hold, growth) }

// ease takes the end of a stall, after a cut, in which others took all. They may have
// gone; and whoever comes and goes would never leave a hold that is as long as the
// time between.
func (s *share) ease(stall time.Duration) { s.wait(min(s.hold, holdFor(stall))) }

// become takes what the quota was found to be, all of it ours; it asks for more
// after the growth's time.
func (s *share) become(now time.Duration, part float64) {
	part = min(max(part, shareLeast), s.top)
	if part < 1 {
		s.top = 1 // what was found above the quota is lost
	}
	s.level, s.met, s.cutAt, s.tally, s.cuts, s.depth = part, part, now, 0, 0, 0
	s.wait(growth)
}
