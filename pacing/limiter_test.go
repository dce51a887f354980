package pacing

import "time"

// limiter is the far side: the truth that the ledger does not know.
type limiter interface {
	limit(l Limits)
	admit(now time.Duration, id int, reserve float64) bool
	settle(id int, reserve, settled float64)
}

// bucket holds size's worth of the quota.
type bucket struct {
	size        time.Duration
	rate, level [dimensions]float64
	last        time.Duration
}

func (b *bucket) limit(l Limits) { b.rate = [...]float64{l.RPM / 60, l.TPM / 60} }

func (b *bucket) capacity(d int) float64 {
	c := b.rate[d] * b.size.Seconds()
	if d == requests {
		return max(c, 1)
	}
	return c
}

func (b *bucket) admit(now time.Duration, _ int, reserve float64) bool {
	if b.last == 0 {
		b.level = [...]float64{b.capacity(0), b.capacity(1)}
	}
	want := [...]float64{1, reserve}
	for d := range b.level {
		b.level[d] = min(b.level[d]+b.rate[d]*(now-b.last).Seconds(), b.capacity(d))
	}
	b.last = now
	for d := range b.level {
		if b.rate[d] > 0 && b.level[d] < min(want[d], b.capacity(d))-1e-6 {
			return false
		}
	}
	for d := range b.level {
		b.level[d] -= want[d]
	}
	return true
}

func (b *bucket) settle(_ int, reserve, settled float64) {
	b.level[tokens] = min(b.level[tokens]+reserve-settled, b.capacity(tokens))
}

// rollingMinute holds the last minute.
type rollingMinute struct {
	limits [dimensions]float64
	log    []charged
	sum    [dimensions]float64
}

type charged struct {
	at     time.Duration
	id     int
	amount [dimensions]float64
}

func (r *rollingMinute) limit(l Limits) { r.limits = [...]float64{l.RPM, l.TPM} }

func (r *rollingMinute) admit(now time.Duration, id int, reserve float64) bool {
	for len(r.log) > 0 && r.log[0].at+minute <= now {
		for d := range r.sum {
			r.sum[d] -= r.log[0].amount[d]
		}
		r.log = r.log[1:]
	}
	want := [...]float64{1, reserve}
	for d := range r.sum {
		if r.limits[d] > 0 && r.sum[d]+want[d] > r.limits[d]+1e-6 {
			return false
		}
	}
	for d := range r.sum {
		r.sum[d] += want[d]
	}
	r.log = append(r.log, charged{now, id, want})
	return true
}

func (r *rollingMinute) settle(id int, reserve, settled float64) {
	for i := len(r.log) - 1; i >= 0; i-- {
		if c := &r.log[i]; c.id == id {
			c.amount[tokens] += settled - reserve
			r.sum[tokens] += settled - reserve
			return
		}
	}
}

// calendarMinute counts from one full minute to the next.
type calendarMinute struct {
	limits, sum [dimensions]float64
	turn        time.Duration
	of          map[int]bool  // the ids that began in it
	off         time.Duration // by how much its clock is ahead
}

func (c *calendarMinute) limit(l Limits) { c.limits = [...]float64{l.RPM, l.TPM} }

func (c *calendarMinute) admit(now time.Duration, id int, reserve float64) bool {
	if turn := (now + c.off).Truncate(minute); turn != c.turn {
		c.turn, c.sum, c.of = turn, [dimensions]float64{}, map[int]bool{}
	}
	want := [...]float64{1, reserve}
	for d := range c.sum {
		if c.limits[d] > 0 && c.sum[d]+want[d] > c.limits[d]+1e-6 {
			return false
		}
	}
	for d := range c.sum {
		c.sum[d] += want[d]
	}
	c.of[id] = true
	return true
}

func (c *calendarMinute) settle(id int, reserve, settled float64) {
	if c.of[id] {
		c.sum[tokens] += settled - reserve
	}
}

// both is two limiters, one behind the other.
type both [2]bucket

func (b *both) limit(l Limits) {
	for i := range b {
		b[i].limit(l)
	}
}

func (b *both) admit(now time.Duration, id int, reserve float64) bool {
	before := *b
	for i := range b {
		if !b[i].admit(now, id, reserve) {
			*b = before
			return false
		}
	}
	return true
}

func (b *both) settle(id int, reserve, settled float64) {
	for i := range b {
		b[i].settle(id, reserve, settled)
	}
}

// behind is a minute by the clock with a bucket before it.
type behind struct {
	bucket
	minute calendarMinute
}

func (b *behind) limit(l Limits) {
	b.bucket.limit(l)
	b.minute.limit(l)
}

func (b *behind) admit(now time.Duration, id int, reserve float64) bool {
	before := b.bucket
	if b.bucket.admit(now, id, reserve) && b.minute.admit(now, id, reserve) {
		return true
	}
	b.bucket = before
	return false
}

func (b *behind) settle(id int, reserve, settled float64) {
	b.bucket.settle(id, reserve, settled)
	b.minute.settle(id, reserve, settled)
}

// shapes are the limiters that the ledger must find out about.
var shapes = [...]struct {
	name string
	new  func() limiter
}{
	{"minute", func() limiter { return &rollingMinute{} }},
	{"60s", func() limiter { return &bucket{size: 60 * time.Second} }},
	{"10s", func() limiter { return &bucket{size: 10 * time.Second} }},
	{"3s", func() limiter { return &bucket{size: 3 * time.Second} }},
	{"2s", func() limiter { return &bucket{size: 2 * time.Second} }},
	{"1s", func() limiter { return &bucket{size: time.Second} }},
	{"calendar", func() limiter { return &calendarMinute{of: map[int]bool{}} }},
	{"60s+1s", func() limiter { return &both{{size: minute}, {size: time.Second}} }},
}
