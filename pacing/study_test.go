package pacing

import (
	"slices"
	"testing"
	"time"
)

// TestStudy plays scenarios of pacing.md at reduced length and holds goodput
// and throttles to the study's figures, whatever limiter is the truth.
//
// Goodput is a percentage of what the omniscient scheduler gets, or of the quota
// that the neighbour leaves; throttles are per 1,000 accepts; both from the
// third minute on. A run is ten minutes, in which one throttle of a slow
// scenario is several per 1,000, so each limit is the worst of five seeds and a
// little.
func TestStudy(t *testing.T) {
	t.Parallel()
	const lasts = 10 * time.Minute
	type cell struct{ goodput, throttles float64 }
	burst := func(now time.Duration) float64 {
		if now%(30*time.Second) < 10*time.Second {
			return 0.8
		}
		return 0
	}
	for _, test := range []struct {
		name string
		scenario
		want [len(shapes)]cell
	}{
		{"1 requests bind", scenario{configured: Limits{RPM: 300}, work: short},
			[...]cell{{99, 2}, {99.5, 2}, {99.5, 2}, {99.5, 2}, {99.5, 2}, {99.5, 1}, {99, 2}, {99.5, 1}}},
		{"2 honest", scenario{configured: Limits{TPM: 200_000}, work: honest},
			[...]cell{{98.5, 3}, {99, 1}, {99, 1}, {99, 1}, {98.5, 1}, {97.5, 5}, {98.5, 3}, {97.5, 5}}},
		{"2b honest, large quota", scenario{configured: Limits{TPM: 2_000_000}, work: honest},
			[...]cell{{99, 3}, {99.5, 3}, {99.5, 3}, {99.5, 3}, {99.5, 3}, {99.5, 2}, {99, 3}, {99.5, 2}}},
		{"3 over-reserved", scenario{configured: Limits{TPM: 400_000}, work: over},
			[...]cell{{98, 2}, {99, 3}, {99, 2}, {97.5, 2}, {78, 3}, {59, 2}, {97, 2}, {59, 2}}},
		{"3b over-reserved, large quota", scenario{configured: Limits{TPM: 4_000_000}, work: over},
			[...]cell{{98, 3}, {99.5, 3}, {99.5, 3}, {99, 3}, {99, 3}, {98.5, 3}, {96.5, 3}, {98.5, 3}}},
		{"4 settles above its reservation", scenario{configured: Limits{TPM: 1_000_000}, work: burn, burndown: 10},
			[...]cell{{99.5, 3}, {97.5, 5}, {98, 6}, {97, 5}, {96, 5}, {95, 10}, {99, 3}, {95, 10}}},
		{"5 mixed sizes", scenario{configured: Limits{TPM: 3_000_000}, work: mixed},
			[...]cell{{98.5, 4}, {99, 3}, {99, 3}, {99, 3}, {95, 3}, {95, 3}, {98.5, 4}, {95, 3}}},
		{"7a configured twice too high", scenario{configured: Limits{RPM: 600}, actual: Limits{RPM: 300}, work: short},
			[...]cell{{97, 27}, {99, 25}, {99, 15}, {99, 15}, {99, 15}, {99, 15}, {99.5, 27}, {99, 15}}},
		{"7b configured twice too low", scenario{configured: Limits{RPM: 300}, actual: Limits{RPM: 600}, work: short},
			[...]cell{{96.5, 2}, {99.5, 3}, {99.5, 3}, {99.5, 3}, {98.5, 3}, {98.5, 3}, {96.5, 8}, {98.5, 3}}},
		{"8a neighbour", scenario{configured: Limits{RPM: 300}, work: short, neighbour: func(time.Duration) float64 { return 0.4 }},
			[...]cell{{93, 38}, {99, 20}, {99.5, 30}, {99, 24}, {98.5, 22}, {99, 15}, {96, 40}, {99, 15}}},
		{"8c neighbour in bursts", scenario{configured: Limits{RPM: 300}, work: short, neighbour: burst},
			[...]cell{{95, 40}, {98, 80}, {90, 65}, {90, 60}, {86, 60}, {82, 70}, {98, 25}, {82, 70}}},
		{"13a two requests a minute", scenario{configured: Limits{RPM: 2}, work: short},
			[...]cell{{99.5, 0}, {99.5, 0}, {99.5, 0}, {99.5, 0}, {99.5, 0}, {99.5, 0}, {99.5, 0}, {99.5, 0}}},
		{"13b tiny quota", scenario{configured: Limits{TPM: 10_000}, work: honest},
			[...]cell{{90, 1}, {97.5, 1}, {97, 1}, {96.5, 1}, {96.5, 1}, {96.5, 1}, {90, 1}, {96.5, 1}}},
	} {
		for i, shape := range shapes {
			t.Run(test.name+"/"+shape.name, func(t *testing.T) {
				t.Parallel()
				s := test.scenario
				s.lasts = lasts
				got, bound := s.play(shape.new(), 1), 0.0
				if s.neighbour == nil {
					best := s.bound(shape.new(), 1)
					bound = best.sum(s.binds(), warm, lasts)
				} else {
					for at := warm; at < lasts; at += time.Second {
						bound += (1 - s.neighbour(at)) * s.truth().RPM / 60
					}
				}
				want := test.want[i]
				if goodput := 100 * got.sum(s.binds(), warm, lasts) / bound; goodput < want.goodput {
					t.Errorf("goodput is %.1f %% of the bound, want %.1f %% at least", goodput, want.goodput)
				}
				if rate := 1000 * float64(got.throttled) / float64(got.accepted); rate > want.throttles && got.throttled > 1 {
					t.Errorf("%.1f throttles per 1,000, want %.1f at most", rate, want.throttles)
				}
			})
		}
	}
}

// TestNeighbourLeaves: after a neighbour that took four fifths from the start the
// share is back when a hold and the growth from there are over, whatever the
// phase of the hold in which it left; in the middle of nine runs, as a rolling
// minute can have starved us further.
func TestNeighbourLeaves(t *testing.T) {
	t.Parallel()
	const leaves, back = 5 * time.Minute, 115 * time.Second
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			t.Parallel()
			s := scenario{configured: Limits{RPM: 300}, work: short, lasts: leaves + back + time.Minute}
			s.neighbour = func(now time.Duration) float64 {
				if now < leaves {
					return 0.8
				}
				return 0
			}
			var got []float64
			for seed := range uint64(9) {
				run := s.play(shape.new(), seed+1)
				got = append(got, run.sum(requests, leaves+back, s.lasts))
			}
			slices.Sort(got)
			if n := got[len(got)/2]; n < 0.95*300 {
				t.Errorf("%v requests in the minute that begins %v after the neighbour left, want 95 %% of 300", n, back)
			}
		})
	}
}

// TestNeighbourComesAndGoes: a neighbour that takes all for a while, again and again,
// leaves us the time between, and does not keep us from exploring.
func TestNeighbourComesAndGoes(t *testing.T) {
	t.Parallel()
	const on, every = 10 * time.Second, 45 * time.Second
	for _, size := range []time.Duration{time.Second, 3 * time.Second} {
		t.Run(size.String(), func(t *testing.T) {
			t.Parallel()
			s := scenario{configured: Limits{RPM: 300}, work: short, lasts: 22 * time.Minute}
			s.neighbour = func(now time.Duration) float64 {
				if now > warm && now%every < on {
					return 1
				}
				return 0
			}
			var got []float64
			var rounds []int
			for seed := range uint64(5) {
				p := s.player(&bucket{size: size}, seed+1)
				p.world.run(s.lasts)
				got = append(got, p.outcome.sum(requests, 2*warm, s.lasts))
				rounds = append(rounds, p.ledger.explore.rounds)
			}
			slices.Sort(got)
			slices.Sort(rounds)
			if n := rounds[len(rounds)/2]; n <= 2 {
				t.Errorf("explored %d times, want more than the first two", n)
			}
			left := 300 * (s.lasts - 2*warm).Minutes() * (every - on).Seconds() / every.Seconds()
			if n := got[len(got)/2]; n < 0.85*left {
				t.Errorf("%v requests, want 85 %% of the %.0f that are left", n, left)
			}
		})
	}
}

// TestRaiseIsFound: within the price of an exploration, whatever shape is
// believed by then.
func TestRaiseIsFound(t *testing.T) {
	t.Parallel()
	const raised = 5 * time.Minute
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			t.Parallel()
			s := scenario{configured: Limits{RPM: 300}, work: short, lasts: 13 * time.Minute, changes: raised, to: Limits{RPM: 600}}
			got := s.play(shape.new(), 1)
			found := raised + explorePrice*minute/300 + minute // an exploration takes one to be sure
			if n := got.sum(requests, found, found+minute); n < 1.8*300 {
				t.Errorf("%v requests in the minute after %v, want 90 %% of 600", n, found)
			}
			if n := got.sum(requests, s.lasts-2*minute, s.lasts); n < 0.94*1200 {
				t.Errorf("%v requests in the last two minutes, want 94 %% of 1,200", n)
			}
		})
	}
}

// TestClocksDiffer: where the limiter's clock is not ours, its minute is paced as
// a rolling one.
func TestClocksDiffer(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{-500 * time.Millisecond, 500 * time.Millisecond} {
		t.Run(off.String(), func(t *testing.T) {
			t.Parallel()
			s := scenario{configured: Limits{TPM: 400_000}, work: over, lasts: 10 * time.Minute}
			got := s.play(&calendarMinute{of: map[int]bool{}, off: off}, 1)
			want := s.play(&rollingMinute{}, 1)
			if n, least := got.sum(tokens, warm, s.lasts), want.sum(tokens, warm, s.lasts); n < 0.95*least {
				t.Errorf("%.0f tokens, want %.0f, what a rolling minute gives, less 5 %%", n, least)
			}
			// Full minutes that are not are found out by flights of them.
			if rate := 1000 * float64(got.throttled) / float64(got.accepted); rate > 50 {
				t.Errorf("%.1f throttles per 1,000, want 50 at most", rate)
			}
		})
	}
}
