package pacing

import (
	"math/rand/v2"
	"testing"
	"time"
)

// script turns fuzzed bytes into a sequence of calls.
type script []byte

// take returns a number below n.
func (s *script) take(n int) int {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return int(b) * n / 256
}

func (s *script) charge() Charge {
	input := int64(1) << s.take(15)
	maxTokens := int64(s.take(64)) * 64
	return Charge{
		Reserve: input + maxTokens,
		Expect:  input + maxTokens*int64(s.take(16))/4,
		Input:   input,
		Doubt:   input * int64(s.take(4)) / 16,
	}
}

func (s *script) limits() Limits {
	l := Limits{RPM: float64(s.take(4) * 150), TPM: float64(s.take(4)) * 40_000, Firm: s.take(2) == 1}
	if l.RPM == 0 && l.TPM == 0 {
		l.RPM = 60
	}
	return l
}

// seeds adds scripts that get somewhere without a fuzzer too.
func seeds(f *testing.F) {
	random := rand.NewChaCha8([32]byte{})
	for n := range 32 {
		data := make([]byte, n*n)
		random.Read(data)
		f.Add(data)
	}
}

// play drives a ledger with the script: waits, starts out of turn, settlements
// below and above the expected, throttles, errors, and each grant ended twice.
// It returns the ledger, the grants still open, and the time.
func (s *script) play(t *testing.T) (Ledger, []Grant, time.Time) {
	l, now := NewLedger(s.limits(), start), start
	var open []Grant
	for len(*s) > 0 {
		switch s.take(8) {
		case 0, 1:
			open = append(open, l.Start(s.charge(), now))
		case 2:
			c := s.charge()
			if at := l.When(c, now); at.After(now) {
				now = at
			}
			open = append(open, l.Start(c, now))
		case 3:
			now = now.Add(time.Duration(s.take(256)) * 37 * time.Millisecond)
		case 4:
			now = now.Add(time.Duration(s.take(256)) * time.Second)
		default:
			if len(open) == 0 {
				continue
			}
			i := s.take(len(open))
			g := open[i]
			open = append(open[:i], open[i+1:]...)
			end(&l, g, s.take(3), int64(s.take(256))*64, now)
			before := l
			end(&l, g, s.take(3), int64(s.take(256))*64, now.Add(time.Hour))
			if l != before {
				t.Fatal("to end a grant again changed the ledger")
			}
		}
	}
	return l, open, now
}

func end(l *Ledger, g Grant, how int, settled int64, now time.Time) {
	switch how {
	case 0:
		l.Settle(g, settled, settled/3, now)
	case 1:
		l.Refuse(g, now)
	case 2:
		l.Cancel(g, now)
	}
}

// FuzzNoTokenLeaks: when every grant has ended and a minute has passed, nothing
// is left in the account, and ending a grant twice is ending it once.
func FuzzNoTokenLeaks(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		s := script(data)
		l, open, now := s.play(t)
		for _, g := range open {
			l.Settle(g, g.charge.Reserve, 0, now)
		}
		// What a bucket owes after charges far above the quota is paid off by
		// and by.
		now = now.Add(2 * time.Minute)
		for range 100 {
			now = now.Add(time.Hour)
			l.advance(now)
		}
		if l.inFlight != 0 || l.fresh != 0 {
			t.Errorf("%d in flight, and a variance of %v is fresh; want none", l.inFlight, l.fresh)
		}
		for d, q := range l.quota {
			if q.debt > 0 || q.least != 0 {
				t.Errorf("dimension %d: debt is %v to %v, want none", d, q.least, q.debt)
			}
			for _, sum := range [...]entry{q.window.sum, q.window.turn} {
				if sum.charged != 0 || sum.extra != 0 {
					t.Errorf("dimension %d: the window holds %+v, want nothing", d, sum)
				}
			}
		}
		if v := l.View(now); v.Requests != 0 || v.Tokens != 0 {
			t.Errorf("view shows %v requests and %v tokens, want none", v.Requests, v.Tokens)
		}
	})
}

// FuzzWhenKeepsItsWord: who waits until When, and sees no event meanwhile, may
// start then. That a start of before proves to be accepted, and teaches
// something, is an event.
func FuzzWhenKeepsItsWord(f *testing.F) {
	seeds(f)
	believed := func(l *Ledger) [7]any {
		r, t := &l.quota[requests], &l.quota[tokens]
		return [...]any{l.share.top, l.explore.to, r.burst, t.burst, r.window.kind, t.window.kind, l.recovery.stalled()}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := script(data)
		c := s.charge()
		l, _, now := s.play(t)
		at, before := l.When(c, now), believed(&l)
		if at.Before(now) {
			at = now
		}
		if wait := at.Sub(now); wait > 30*24*time.Hour {
			t.Errorf("a wait of %v has no end", wait)
		}
		if again := l.When(c, at); again.After(at) && believed(&l) == before {
			t.Errorf("to wait %v was not enough: %v more", at.Sub(now), again.Sub(at))
		}
	})
}

// FuzzQuotaIsKept: while nothing is explored, no start is refused by a rolling
// minute, nor by a bucket of one second: the strictest shapes. Only a charge above
// the whole minute is let through, alone.
func FuzzQuotaIsKept(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		s := script(data)
		limits := s.limits()
		limits.Firm = true
		l, now := NewLedger(limits, start), start
		l.explore.due = never
		var minute rollingMinute
		second := bucket{size: time.Second}
		minute.limit(limits)
		second.limit(limits)
		var open []Grant
		for id := 1; len(s) > 0; id++ {
			switch s.take(4) {
			case 0:
				now = now.Add(time.Duration(s.take(256)) * 99 * time.Millisecond)
			case 1:
				if len(open) == 0 {
					continue
				}
				i := s.take(len(open))
				g := open[i]
				open = append(open[:i], open[i+1:]...)
				settled := max(g.charge.Expect, g.charge.Reserve) * int64(s.take(256)) / 255
				second.settle(int(g.id), float64(g.charge.Reserve), float64(settled))
				minute.settle(int(g.id), float64(g.charge.Reserve), float64(settled))
				l.Settle(g, settled, 0, now)
			default:
				c := s.charge()
				if l.Oversize(c) {
					continue
				}
				if at := l.When(c, now); at.After(now) {
					now = at
				}
				g := l.Start(c, now)
				open = append(open, g)
				since := now.Sub(start) + time.Hour
				if !second.admit(since, int(g.id), float64(c.Reserve)) {
					t.Fatalf("start %d of %+v is refused by a bucket of a second", g.id, c)
				}
				if !minute.admit(since, int(g.id), float64(c.Reserve)) {
					t.Fatalf("start %d of %+v is refused by a rolling minute", g.id, c)
				}
			}
		}
	})
}
