package bedrocksim

import (
	"math"
	"slices"
	"time"
)

// meter is the account of one dimension (requests or tokens) in one window.
// Without a limit it admits all.
type meter interface {
	admits(now time.Time, cost float64) bool
	take(now time.Time, cost float64)
	// give returns a part of what was taken at start; a negative part takes more.
	give(now, start time.Time, part float64)
	setLimit(now time.Time, perMinute float64)
}

// meter returns the account of the window in one dimension. least is the
// smallest capacity of a bucket: one that holds less than one request would
// never admit any.
func (w window) meter(least float64) meter {
	switch {
	case w.calendar:
		return &calendarMeter{span: time.Minute}
	case w.hold > 0:
		return &bucketMeter{hold: w.hold, least: least}
	default:
		return &rollingMeter{}
	}
}

// rollingMeter counts what started in the last 60 s, exactly.
type rollingMeter struct {
	limit float64
	used  float64
	log   []entry // by time, one entry per moment; those before head are gone
	head  int
}

type entry struct {
	at   time.Time
	cost float64
}

func (m *rollingMeter) expire(now time.Time) {
	for m.head < len(m.log) && !m.log[m.head].at.Add(time.Minute).After(now) {
		m.used -= m.log[m.head].cost
		m.head++
	}
	// Half of the log gone pays for moving the other half.
	if m.head > 64 && m.head > len(m.log)/2 {
		m.log = append(m.log[:0], m.log[m.head:]...)
		m.head = 0
	}
	if m.head == len(m.log) {
		m.used = 0 // what rounding may have left
	}
}

func (m *rollingMeter) admits(now time.Time, cost float64) bool {
	m.expire(now)
	return m.limit == 0 || m.used+cost <= m.limit+rounding
}

func (m *rollingMeter) take(now time.Time, cost float64) {
	if m.limit == 0 {
		return // nobody asks: spare the log
	}
	m.used += cost
	if last := len(m.log) - 1; last >= m.head && m.log[last].at.Equal(now) {
		m.log[last].cost += cost
		return
	}
	m.log = append(m.log, entry{now, cost})
}

func (m *rollingMeter) give(now, start time.Time, part float64) {
	m.expire(now)
	live := m.log[m.head:]
	i, found := slices.BinarySearchFunc(live, start, func(e entry, t time.Time) int { return e.at.Compare(t) })
	if found {
		live[i].cost -= part
		m.used -= part
	}
}

func (m *rollingMeter) setLimit(_ time.Time, perMinute float64) { m.limit = perMinute }

// calendarMeter counts what started since the last full minute or day. It
// counts without a limit too, so that a limit that comes at noon knows the
// morning.
type calendarMeter struct {
	span  time.Duration
	limit float64
	begin time.Time
	used  float64
}

func (m *calendarMeter) turn(now time.Time) {
	if begin := now.Truncate(m.span); !begin.Equal(m.begin) {
		m.begin, m.used = begin, 0
	}
}

func (m *calendarMeter) admits(now time.Time, cost float64) bool {
	m.turn(now)
	return m.limit == 0 || m.used+cost <= m.limit+rounding
}

func (m *calendarMeter) take(now time.Time, cost float64) {
	m.turn(now)
	m.used += cost
}

func (m *calendarMeter) give(now, start time.Time, part float64) {
	m.turn(now)
	if start.Truncate(m.span).Equal(m.begin) {
		m.used -= part
	}
}

func (m *calendarMeter) setLimit(_ time.Time, perMinute float64) { m.limit = perMinute }

// bucketMeter holds hold's worth of the limit. It admits when its level
// reaches the smaller of cost and capacity, and then goes below zero: a request
// larger than the bucket passes when the bucket is full.
type bucketMeter struct {
	hold  time.Duration
	least float64

	limit    float64 // per minute
	capacity float64
	level    float64
	at       time.Time // when level was true
}

func (m *bucketMeter) refill(now time.Time) {
	m.level = math.Min(m.capacity, m.level+m.limit*now.Sub(m.at).Minutes())
	m.at = now
}

func (m *bucketMeter) admits(now time.Time, cost float64) bool {
	if m.limit == 0 {
		return true
	}
	m.refill(now)
	return m.level >= math.Min(cost, m.capacity)-rounding
}

func (m *bucketMeter) take(now time.Time, cost float64) {
	if m.limit > 0 {
		m.level -= cost
	}
}

func (m *bucketMeter) give(now, _ time.Time, part float64) {
	m.refill(now)
	m.level += part // the next refill drops what the bucket can't hold
}

func (m *bucketMeter) setLimit(now time.Time, perMinute float64) {
	unlimited := m.limit == 0
	m.refill(now)
	m.limit = perMinute
	m.capacity = math.Max(m.least, perMinute*m.hold.Minutes())
	if unlimited || m.level > m.capacity {
		m.level = m.capacity
	}
}

// rounding is what sums of float64 may be off by, in tokens or requests.
// Smaller, and a caller that waits to the nanosecond for its turn is refused;
// larger, and the limiter admits what it should not.
const rounding = 1e-6
