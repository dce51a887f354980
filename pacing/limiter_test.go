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

// rolling holds the last minute.
type rolling struct {
	limits [dimensions]float64
	log    []charged
	sum    [dimensions]float64
}

type charged struct {
	at     time.Duration
	id     int
	amount [dimensions]float64
}

func (r *rolling) limit(l Limits) { r.limits = [...]float64{l.RPM, l.TPM} }

func (r *rolling) admit(now time.Duration, id int, reserve float64) bool {
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

func (r *rolling) settle(id int, reserve, settled float64) {
	for i := len(r.log) - 1; i >= 0; i-- {
		if c := &r.log[i]; c.id == id {
			c.amount[tokens] += settled - reserve
			r.sum[tokens] += settled - reserve
			return
		}
	}
}

// shapes are the limiters that the ledger must find out about.
var shapes = [...]struct {
	name string
	new  func() limiter
}{
	{"minute", func() limiter { return &rolling{} }},
	{"60s", func() limiter { return &bucket{size: 60 * time.Second} }},
	{"10s", func() limiter { return &bucket{size: 10 * time.Second} }},
	{"3s", func() limiter { return &bucket{size: 3 * time.Second} }},
	{"2s", func() limiter { return &bucket{size: 2 * time.Second} }},
	{"1s", func() limiter { return &bucket{size: time.Second} }},
}
