package pacing

import "time"

// Cause is why a gate is closed.
type Cause uint8

// The causes, the worse ones later. They differ in how soon the first probe goes, and
// how the interval grows while probes fail; and that any success opens a broken route,
// the others only a probe's.
const (
	Open    Cause = iota
	Broken        // the service is away or out of capacity: the breaker
	Parked        // the quota of the day is gone
	Stopped       // credentials or access are refused
)

func (c Cause) String() string {
	return [...]string{"open", "broken", "parked", "stopped"}[c]
}

// probes holds each cause's first and longest interval between probes.
//
// Broken: a blip of a few seconds should cost little more than itself, and a
// long outage one request a minute. Parked: AWS does not say when the day
// ends, and each probe is a throttle in somebody's alarm. Stopped: a
// person is mending a policy and waits for the effect.
var probes = [...]struct{ first, longest time.Duration }{
	Broken:  {5 * time.Second, time.Minute},
	Parked:  {15 * time.Minute, 15 * time.Minute},
	Stopped: {time.Minute, time.Minute},
}

// Gate says whether to try a route at all. The day park, the breaker and the
// unauthorized stop are one thing: closed until then, then one probe in the air.
// The zero Gate is open.
type Gate struct {
	cause    Cause
	interval time.Duration
	next     time.Time // when the next probe may go
	probing  bool      // a probe is in the air
}

// Cause returns why the gate is closed, or Open.
func (g *Gate) Cause() Cause { return g.cause }

// When returns when the gate lets the next request pass. While a probe is in
// the air that is one interval away: its answer will come first, as a rule.
func (g *Gate) When(now time.Time) time.Time {
	switch {
	case g.cause == Open:
		return now
	case g.probing:
		return now.Add(g.interval)
	default:
		return later(g.next, now)
	}
}

// pass takes a request through the gate and says whether it is the probe.
func (g *Gate) pass() (probe bool) {
	g.probing = g.cause != Open
	return g.probing
}

// shut closes the gate, or after a failed probe keeps it closed for longer. It
// says whether the gate was not closed for this cause before. Of the stragglers
// that were in flight when it closed only a worse cause is news.
//
// Intervals are counted from a time: now or, after a probe, when that was sent.
// One that hangs would add its time-out to each interval.
func (g *Gate) shut(c Cause, probe bool, from time.Time) (news bool) {
	if g.cause >= c && !probe {
		return false
	}
	news = g.cause != c
	if probe {
		g.probing = false
	}
	if news {
		g.cause, g.interval = c, probes[c].first
	} else {
		g.interval = min(2*g.interval, probes[c].longest)
	}
	g.next = from.Add(g.interval)
	return news
}

// open opens the gate and says whether it was closed.
func (g *Gate) open() (news bool) {
	news = g.cause != Open
	*g = Gate{}
	return news
}

// abandon gives back a probe that told nothing: another may go at once.
func (g *Gate) abandon() { g.probing = false }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
