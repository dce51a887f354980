package main

import "fmt"

// verdict is what a figure is worth beside its target.
type verdict int

// The verdicts, better ones first.
const (
	unasked verdict = iota
	met
	// beyond: missed, and so by a pacer that was told the limiter; of what that gets
	// it is reached.
	beyond
	missed
)

func (v verdict) String() string {
	return [...]string{"", "met", "told", "MISSED"}[v]
}

// judgement holds the verdicts on a run, or on the median of several.
type judgement struct {
	goodput, throttles []verdict // by row
	settles            []verdict
	others             []string // what is wrong with the run as a whole
}

// receivesMost is how often a job may be received on average (issue 5).
const receivesMost = 3

// judge compares the figures with their targets. told are what those made of it who
// were told the limiter; none: they were not asked. Goodput and 429s can be had for
// each other, so that one excuses a figure only where it does no worse in the other:
// it keeps that target, or is no further from it than ours.
func (c cell) judge(told ...cell) (j judgement) {
	for i, r := range c.Rows {
		// Figures are printed to a tenth of a percent, and judged so.
		least := r.want.goodput - 0.0005
		most := r.most()
		counts := r.want.throttles > 0 || r.want.extra > 0
		goodput, throttles := missed, missed
		if r.Goodput >= least {
			goodput = met
		}
		if r.Throttles <= most {
			throttles = met
		}
		for _, other := range told {
			t := other.Rows[i]
			if !counts || t.Throttles <= max(t.most(), r.Throttles) {
				switch reached := r.Goodput >= least*t.Goodput; {
				case reached && r.want.ofTold:
					goodput = met
				case reached && t.Goodput < least:
					goodput = min(goodput, beyond)
				}
			}
			if t.Goodput >= min(least, r.Goodput) && t.Throttles > most && r.Throttles <= t.Throttles {
				throttles = min(throttles, beyond)
			}
		}
		if r.want.goodput == 0 {
			goodput = unasked
		}
		if !counts {
			throttles = unasked
		}
		j.goodput, j.throttles = append(j.goodput, goodput), append(j.throttles, throttles)
	}
	for _, t := range c.Settles {
		v := met
		if t.Took < 0 || t.Took > t.Within {
			v = missed
		}
		j.settles = append(j.settles, v)
	}
	if c.Error != "" {
		j.others = append(j.others, "error")
	}
	if c.Lost > 0 || c.Twice > 0 {
		j.others = append(j.others, "lost or twice")
	}
	if c.Failed > 0 && !c.fails {
		j.others = append(j.others, "failed")
	}
	if c.FirstMost > 0 && c.FirstSecond > c.FirstMost {
		j.others = append(j.others, fmt.Sprintf("first second, where %.0f are allowed", c.FirstMost))
	}
	if c.Receives > receivesMost {
		j.others = append(j.others, fmt.Sprintf("%.1f receives per job", c.Receives))
	}
	return j
}

// most is how many 429s the target permits. A phase of a few hundred jobs can't
// show less than one.
func (r row) most() float64 { return max(1, r.Successes*r.want.throttles/1000+r.want.extra) }

// all returns every verdict that was asked for.
func (j judgement) all() (vs []verdict) {
	for _, of := range [][]verdict{j.goodput, j.throttles, j.settles} {
		for _, v := range of {
			if v != unasked {
				vs = append(vs, v)
			}
		}
	}
	for range j.others {
		vs = append(vs, missed)
	}
	return vs
}

func (j judgement) worst() (w verdict) {
	for _, v := range j.all() {
		w = max(w, v)
	}
	return w
}
