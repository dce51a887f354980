package bedrocksim_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
)

var (
	rolling  = bedrocksim.Rolling
	calendar = bedrocksim.Calendar
	behind   = bedrocksim.All(bedrocksim.Bucket(time.Minute), bedrocksim.Bucket(time.Second))
	// midnight begins a minute and a day.
	midnight = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
)

func bucket(seconds float64) bedrocksim.Shape {
	return bedrocksim.Bucket(time.Duration(seconds * float64(time.Second)))
}

// TestAdmits steps one limiter of 60 RPM or 6,000 TPM through each case.
func TestAdmits(t *testing.T) {
	t.Parallel()
	type ask struct {
		at    float64 // seconds after midnight
		cost  int64   // tokens, or how often to ask where requests are limited
		admit int64   // the same
	}
	const rpm, tpm = true, false
	tests := []struct {
		name     string
		shape    bedrocksim.Shape
		requests bool
		asks     []ask
	}{
		{"zero shape is rolling", nil, rpm, []ask{{59, 70, 60}, {61, 70, 0}, {119, 70, 60}}},
		{"rolling: a clump leaves after its minute", rolling, rpm, []ask{{59, 70, 60}, {61, 70, 0}, {118.999, 70, 0}, {119, 70, 60}}},
		{"rolling: a spread leaves as it came", rolling, rpm, []ask{{0, 20, 20}, {30, 50, 40}, {60, 50, 20}, {90, 50, 40}}},
		{"rolling: larger than the minute never passes", rolling, tpm, []ask{{0, 6001, 0}, {600, 6001, 0}, {601, 6000, 6000}}},
		{"calendar: forgets at the full minute", calendar, rpm, []ask{{59, 70, 60}, {59.999, 1, 0}, {60, 70, 60}, {119, 1, 0}}},
		{"calendar: larger than the minute never passes", calendar, tpm, []ask{{0, 6001, 0}, {60, 6000, 6000}}},
		{"bucket of a minute: full at birth", bucket(60), rpm, []ask{{0, 70, 60}, {1, 5, 1}, {11, 20, 10}, {600, 70, 60}}},
		{"bucket of 10 s", bucket(10), rpm, []ask{{0, 70, 10}, {2.5, 70, 2}, {3, 70, 1}, {60, 70, 10}}},
		{"bucket of 3 s", bucket(3), rpm, []ask{{0, 70, 3}, {1, 70, 1}, {60, 70, 3}}},
		{"bucket of 1 s", bucket(1), rpm, []ask{{0, 70, 1}, {0.999, 70, 0}, {1, 70, 1}, {60, 70, 1}}},
		{"bucket of less than one request holds one", bucket(0.25), rpm, []ask{{0, 70, 1}, {1, 70, 1}}},
		{"bucket: larger than it passes when full, then debt", bucket(10), tpm, []ask{
			{0, 3000, 3000}, {19.9, 3000, 0}, {20, 1, 0}, {20.01, 1, 1}, {29.9, 3000, 0}, {30.1, 3000, 3000},
		}},
		{"bucket: larger than a minute passes when full", bucket(60), tpm, []ask{{0, 9000, 9000}, {30, 1, 0}, {30.1, 10, 10}}},
		{"a minute behind a second: the second binds", behind, rpm, []ask{{0, 70, 1}, {1, 70, 1}, {2, 70, 1}}},
		{"a minute behind a second: the minute binds", bedrocksim.All(bucket(2), bucket(1)), tpm, []ask{
			{0, 100, 100}, {0.5, 200, 0}, {1, 200, 200}, {2, 1, 0}, {2.01, 1, 1},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			quota := bedrocksim.Quota{TPM: 6000}
			if tt.requests {
				quota = bedrocksim.Quota{RPM: 60}
			}
			l := bedrocksim.NewLimiter(quota, tt.shape, midnight)
			var got, want []int64
			for _, a := range tt.asks {
				now := midnight.Add(time.Duration(a.at * float64(time.Second)))
				want = append(want, a.admit)
				var admitted int64
				if tt.requests {
					for range a.cost {
						if _, cause := l.Admit(now, 1e9); cause == bedrocksim.Admitted {
							admitted++
						}
					}
				} else if _, cause := l.Admit(now, a.cost); cause == bedrocksim.Admitted {
					admitted = a.cost
				}
				got = append(got, admitted)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("admitted (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSettle asks for what is left after a charge at 0 s was settled at 30 s.
func TestSettle(t *testing.T) {
	t.Parallel()
	tests := []struct {
		shape             bedrocksim.Shape
		reserved, settled int64
		at                float64 // seconds
		left              int64
	}{
		{rolling, 5000, 1000, 30, 5000},
		{rolling, 1000, 5000, 30, 1000},
		{rolling, 1000, 9000, 30, -3000},
		{rolling, 1000, 9000, 60, 6000}, // the charge stands at its start
		{calendar, 1000, 9000, 30, -3000},
		{calendar, 1000, 9000, 60, 6000},
		{bucket(60), 6000, 1000, 30, 6000}, // 3,000 came back, the rest is clipped
		{bucket(60), 6000, 4000, 30, 5000},
		{bucket(60), 1000, 9000, 30, -2000}, // full at 30 s, less 8,000
		{bucket(60), 1000, 9000, 60, 1000},
	}
	for _, tt := range tests {
		text, _ := tt.shape.MarshalText()
		t.Run(fmt.Sprintf("%s %d-%d at %v s", text, tt.reserved, tt.settled, tt.at), func(t *testing.T) {
			t.Parallel()
			l := bedrocksim.NewLimiter(bedrocksim.Quota{TPM: 6000}, tt.shape, midnight)
			c, cause := l.Admit(midnight, tt.reserved)
			if cause != bedrocksim.Admitted {
				t.Fatal(cause)
			}
			l.Settle(midnight.Add(30*time.Second), c, tt.settled)
			now := midnight.Add(time.Duration(tt.at * float64(time.Second)))
			if tt.left < 6000 { // a full bucket admits anything
				if _, cause := l.Admit(now, max(tt.left+1, 1)); cause == bedrocksim.Admitted {
					t.Errorf("admitted more than the %d that are left", tt.left)
				}
			}
			if tt.left <= 0 {
				return
			}
			if _, cause := l.Admit(now, tt.left); cause != bedrocksim.Admitted {
				t.Errorf("refused the %d that are left: %s", tt.left, cause)
			}
		})
	}
}

// TestARefusalTakesNothing asks in vain in one dimension, then in the other.
func TestARefusalTakesNothing(t *testing.T) {
	t.Parallel()
	for _, shape := range []bedrocksim.Shape{rolling, calendar, bucket(60), bucket(1), behind} {
		l := bedrocksim.NewLimiter(bedrocksim.Quota{RPM: 120, TPM: 12000, TPD: 20000}, shape, midnight)
		if _, cause := l.Admit(midnight, 100); cause != bedrocksim.Admitted {
			t.Fatal(cause)
		}
		for range 1000 {
			if _, cause := l.Admit(midnight, 19901); cause != bedrocksim.Day {
				t.Fatalf("cause = %q, want day", cause)
			}
			if _, cause := l.Admit(midnight, 19900); cause != bedrocksim.Tokens {
				t.Fatalf("cause = %q, want tokens", cause)
			}
		}
		if _, cause := l.Admit(midnight, 100); cause != bedrocksim.Admitted {
			t.Errorf("%v: after refusals: %s", shape, cause)
		}
	}
}

func TestDay(t *testing.T) {
	t.Parallel()
	l := bedrocksim.NewLimiter(bedrocksim.Quota{}, rolling, midnight)
	noon := midnight.Add(12 * time.Hour)
	l.Admit(midnight, 500)
	l.SetQuota(noon, bedrocksim.Quota{TPD: 1000}) // knows the morning
	if _, cause := l.Admit(noon, 501); cause != bedrocksim.Day {
		t.Errorf("501 of 500: %q", cause)
	}
	c, cause := l.Admit(noon, 500)
	if cause != bedrocksim.Admitted {
		t.Errorf("500 of 500: %q", cause)
	}
	l.Settle(noon.Add(time.Second), c, 100)
	if _, cause := l.Admit(noon.Add(time.Second), 400); cause != bedrocksim.Admitted {
		t.Errorf("400 that came back: %q", cause)
	}
	if _, cause := l.Admit(midnight.Add(24*time.Hour), 1000); cause != bedrocksim.Admitted {
		t.Errorf("next day: %q", cause)
	}
}

func TestSetQuota(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		shape       bedrocksim.Shape
		raised, cut int // admitted at 0 s after 60 were and the quota became 90; after that became 30
		later       int // admitted at 30 s
	}{
		{rolling, 30, 0, 0},
		{calendar, 30, 0, 0},
		{bucket(60), 0, 0, 15}, // a raise fills the bucket faster, and no more
		{bucket(10), 0, 0, 5},
	} {
		l := bedrocksim.NewLimiter(bedrocksim.Quota{RPM: 60}, tt.shape, midnight)
		count := func(now time.Time) (n int) {
			for range 100 {
				if _, cause := l.Admit(now, 1); cause == bedrocksim.Admitted {
					n++
				}
			}
			return n
		}
		count(midnight)
		l.SetQuota(midnight, bedrocksim.Quota{RPM: 90})
		got := []int{count(midnight)}
		l.SetQuota(midnight, bedrocksim.Quota{RPM: 30})
		got = append(got, count(midnight), count(midnight.Add(30*time.Second)))
		if diff := cmp.Diff([]int{tt.raised, tt.cut, tt.later}, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.shape, diff)
		}
	}
}

// TestNeighbourLeavesTheRest drains greedily beside a neighbour, and counts the
// third minute and the third after the neighbour's end.
func TestNeighbourLeavesTheRest(t *testing.T) {
	t.Parallel()
	quotas := map[string]bedrocksim.Quota{
		"requests": {RPM: 600}, "tokens": {TPM: 60000}, "both": {RPM: 600, TPM: 60000},
	}
	for name, quota := range quotas {
		for _, shape := range []bedrocksim.Shape{rolling, calendar, bucket(60), bucket(10), bucket(1), behind} {
			text, _ := shape.MarshalText()
			t.Run(name+" "+string(text), func(t *testing.T) {
				t.Parallel()
				l := bedrocksim.NewLimiter(quota, shape, midnight)
				l.SetNeighbour(midnight, bedrocksim.Neighbour{Fraction: 0.4})
				minute := func(n int) (admitted int) {
					for ms := 0; ms < 60_000; ms += 10 {
						now := midnight.Add(time.Duration(n)*time.Minute + time.Duration(ms)*time.Millisecond)
						if _, cause := l.Admit(now, 100); cause == bedrocksim.Admitted {
							admitted++
						}
					}
					return admitted
				}
				minute(0)
				minute(1)
				if got := minute(2); got < 355 || got > 365 {
					t.Errorf("%d admitted beside a neighbour of 0.4, want 360", got)
				}
				before := l.Neighbour(midnight.Add(3 * time.Minute)).Tokens
				minute(3)
				if got := l.Neighbour(midnight.Add(4*time.Minute)).Tokens - before; quota.TPM > 0 && math.Abs(got-24000) > 300 {
					t.Errorf("the neighbour got %.0f tokens, want 24,000", got)
				}
				l.SetNeighbour(midnight.Add(4*time.Minute), bedrocksim.Neighbour{})
				minute(4)
				minute(5)
				if got := minute(6); got < 595 || got > 605 {
					t.Errorf("%d admitted alone, want 600", got)
				}
			})
		}
	}
}

func TestNeighbourInBursts(t *testing.T) {
	t.Parallel()
	l := bedrocksim.NewLimiter(bedrocksim.Quota{RPM: 600}, bucket(1), midnight)
	l.SetNeighbour(midnight, bedrocksim.Neighbour{Fraction: 0.8, On: 10 * time.Second, Off: 20 * time.Second})
	var got []int
	for tens := range 6 {
		admitted := 0
		for ms := 0; ms < 10_000; ms += 10 {
			if _, cause := l.Admit(midnight.Add(time.Duration(tens)*10*time.Second+time.Duration(ms)*time.Millisecond), 1); cause == bedrocksim.Admitted {
				admitted++
			}
		}
		got = append(got, admitted)
	}
	for i, want := range []int{20, 100, 100, 20, 100, 100} {
		if math.Abs(float64(got[i]-want)) > 10 { // what the bucket holds
			t.Errorf("admitted in each ten seconds: %v, want about %d in %d", got, want, i)
		}
	}
}

// A neighbour that was refused takes what it waits for as soon as that is there,
// not as late as somebody else asks.
func TestNeighbourIsTriedBetweenRequests(t *testing.T) {
	t.Parallel()
	l := bedrocksim.NewLimiter(bedrocksim.Quota{RPM: 60}, bucket(1), midnight)
	l.SetNeighbour(midnight, bedrocksim.Neighbour{Fraction: 0.5}) // one each two seconds
	var got []bedrocksim.Cause
	for _, at := range []time.Duration{
		1900 * time.Millisecond, // takes what the neighbour wants at 2 s, and gets at 2.9
		3800 * time.Millisecond,
		3960 * time.Millisecond, // the bucket is full again since then
	} {
		_, cause := l.Admit(midnight.Add(at), 1)
		got = append(got, cause)
	}
	want := []bedrocksim.Cause{bedrocksim.Admitted, bedrocksim.Requests, bedrocksim.Admitted}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("admitted (-want +got):\n%s", diff)
	}
}

func TestNeighbourOfAnIdleDayCostsNothing(t *testing.T) {
	t.Parallel()
	l := bedrocksim.NewLimiter(bedrocksim.Quota{RPM: 1e6}, rolling, midnight)
	l.SetNeighbour(midnight, bedrocksim.Neighbour{Fraction: 0.5})
	later := midnight.Add(1000 * time.Hour)
	l.Admit(later, 1)
	if got := l.Neighbour(later).Requests; got < 500_000 || got > 1_100_000 {
		t.Errorf("caught up with %d requests, want the last two minutes' worth", got)
	}
}

func TestShapeText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"rolling", "calendar", "bucket:10s", "bucket:1m0s+bucket:1s", "rolling+bucket:1.5s"} {
		var s bedrocksim.Shape
		if err := s.UnmarshalText([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, _ := s.MarshalText(); string(got) != text {
			t.Errorf("%s came back as %s", text, got)
		}
	}
	for _, text := range []string{"", "minute", "bucket", "bucket:", "bucket:0s", "bucket:-1s", "rolling:1s", "rolling+"} {
		var s bedrocksim.Shape
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %v", text, s)
		}
	}
}

// FuzzNoShapeAdmitsMoreThanItsDefinition drives each shape with any sequence of
// starts and settlements, and counts anew from the whole history at each
// admission.
func FuzzNoShapeAdmitsMoreThanItsDefinition(f *testing.F) {
	f.Add([]byte("\x00\xff\x10\x01\x20\x00\x80\xff\x10\x81\x40\x03"))
	f.Add([]byte("\x01\x00\x01\x01\x00\x01\x01\x00\x01\x01\x00\x01\xff\xff\xff\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		const rpm, tpm = 12.0, 1200.0
		data = data[:min(len(data), 600)] // longer finds nothing else, slower
		type charge struct {
			start         time.Time
			reserved, now int64
			ticket        bedrocksim.Charge
			settled       bool
		}
		for _, shape := range []bedrocksim.Shape{rolling, calendar, bucket(60), bucket(20), bucket(0.5), behind} {
			l := bedrocksim.NewLimiter(bedrocksim.Quota{RPM: rpm, TPM: tpm}, shape, midnight)
			now := midnight
			var history []*charge
			// flow is what each moment took from a bucket, refunds negative.
			type flow struct {
				at               time.Time
				requests, tokens float64
				admission        bool
			}
			var flows []flow
			for ops := data; len(ops) >= 3 && len(history) < 200; ops = ops[3:] {
				now = now.Add(time.Duration(ops[0]&0x7f) * 200 * time.Millisecond)
				amount := int64(ops[1]) * 16
				if ops[0]&0x80 != 0 && len(history) > 0 {
					c := history[int(ops[2])%len(history)]
					if !c.settled {
						l.Settle(now, c.ticket, amount)
						flows = append(flows, flow{at: now, tokens: float64(amount - c.reserved)})
						c.settled, c.now = true, amount
					}
					continue
				}
				ticket, cause := l.Admit(now, amount)
				if cause != bedrocksim.Admitted {
					continue
				}
				history = append(history, &charge{start: now, reserved: amount, now: amount, ticket: ticket})
				flows = append(flows, flow{at: now, requests: 1, tokens: float64(amount), admission: true})

				for _, w := range shape {
					text, _ := bedrocksim.Shape{w}.MarshalText()
					var hold time.Duration
					var first time.Time // a minute counts what started from here on
					switch string(text) {
					case "rolling":
						first = now.Add(-time.Minute + 1)
					case "calendar":
						first = now.Truncate(time.Minute)
					default:
						hold, _ = time.ParseDuration(string(text[len("bucket:"):]))
					}
					if hold == 0 {
						var requests, tokens float64
						for _, c := range history {
							if !c.start.Before(first) {
								requests++
								tokens += float64(c.now)
							}
						}
						if requests > rpm || tokens > tpm {
							t.Fatalf("%s: %v requests, %v tokens in a minute", text, requests, tokens)
						}
						continue
					}
					// From any moment on, a bucket gives what it holds and what
					// flows in; only the last may exceed it, by what it is
					// larger than the bucket.
					var requests, tokens float64
					excess := math.Max(0, float64(amount)-tpm*hold.Minutes())
					for i := len(flows) - 1; i >= 0; i-- {
						requests += flows[i].requests
						tokens += flows[i].tokens
						d := (hold + now.Sub(flows[i].at)).Minutes()
						most := math.Max(1, rpm*hold.Minutes()) + rpm*now.Sub(flows[i].at).Minutes()
						if flows[i].admission && (requests > most+1e-3 || tokens > tpm*d+excess+1e-3) {
							t.Fatalf("%s: %v requests, %v tokens in %v", text, requests, tokens, now.Sub(flows[i].at))
						}
					}
				}
			}
		}
	})
}

func BenchmarkLimiter(b *testing.B) {
	for _, shape := range []bedrocksim.Shape{rolling, behind} {
		text, _ := shape.MarshalText()
		b.Run(string(text), func(b *testing.B) {
			l := bedrocksim.NewLimiter(bedrocksim.Quota{RPM: 60e3, TPM: 60e6}, shape, midnight)
			now := midnight
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Millisecond)
				if c, cause := l.Admit(now, 1000); cause == bedrocksim.Admitted {
					l.Settle(now, c, 500)
				}
			}
		})
	}
}
