package main

import (
	"slices"
	"time"

	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
)

func faults(fs ...bedrocksim.Fault) func(*bedrocksim.Model) {
	return func(m *bedrocksim.Model) { m.Faults = fs }
}

func all(kind bedrocksim.FaultKind) func(*bedrocksim.Model) {
	return faults(bedrocksim.Fault{Kind: kind, Rate: 1})
}

// others are the scenarios in which more than one ledger is asked: models,
// routes, failures, drainers.
func others() []scenario {
	quota := func(name, alias, modelID, region string, rpm float64) track {
		return track{name: name, alias: alias, modelID: modelID, region: region, rpm: rpm, truth: bedrocksim.Model{RPM: rpm}, work: short}
	}
	free := func(f form) target { return target{goodput: 0.97, throttles: 1} }

	mixed := scenario{
		id: "9a", title: "one queue, two models, one of them saturated", length: 8 * minute,
		tracks: []track{
			quota("busy", "busy", lite, region, 60),
			quota("free", "free", pro, region, 300),
		},
		streams: []stream{{alias: "busy", work: short, ahead: 3_000}, {alias: "free", work: short, ahead: 3_000}},
		phases: []phase{
			{track: "busy", from: warm, to: 8 * minute},
			{track: "free", from: warm, to: 8 * minute, want: free},
		},
	}
	mixed.tracks[1].stream = 1
	// The same with the backlog of the saturated model in front.
	front := mixed
	front.id, front.title = "9d", "the same, behind 3,000 jobs of the saturated one"
	front.tracks = slices.Clone(mixed.tracks)
	front.tracks[1].from = time.Second
	front.streams = []stream{mixed.streams[0], {alias: "free", work: short, from: time.Second}}
	queues := one("9b", "three queues by priority, 300 RPM", 8, 300, 0, short, bedrocksim.Model{}, always(0.97, 1))
	queues.queues = 3
	queues.streams = []stream{{alias: "m", work: short}, {alias: "m", queue: 1, work: short}, {alias: "m", queue: 2, work: short}}
	aliases := one("9c", "two aliases over one quota of 300 RPM", 8, 300, 0, short, bedrocksim.Model{}, always(0.97, 1))
	aliases.tracks[0].also = []string{"n"}
	aliases.streams = append(aliases.streams, stream{alias: "n", work: short})

	// Each ledger explores once in 1,200 successes of its own, at the price of one
	// 429: every four minutes. Two minutes of two ledgers show none of that, or
	// 1.7 per 1,000; eight, or the seven of them that are whole by the clock, show
	// no more than the 0.8 to 1 of the long run.
	pool := scenario{
		id: "10a", title: "two routes of 300 RPM, one slow at 10 min, then gone for 2 min", length: 30 * minute, pool: true,
		tracks: []track{
			quota("east", "m", lite, region, 300),
			quota("west", "m", lite, west, 300),
		},
		streams: []stream{{alias: "m", work: short}},
		phases: []phase{
			{name: "both", from: warm, to: 10 * minute, want: free},
			{name: "slow", from: 10 * minute, to: 18 * minute, want: free},
			{name: "gone", from: 18*minute + 10*time.Second, to: 20*minute + 10*time.Second, left: true, want: free},
			{name: "back", from: 22 * minute, to: 30 * minute, left: true, want: free},
		},
	}
	pool.tracks[1].changes = []change{
		{10 * minute, all(bedrocksim.Slow)}, {18 * minute, all(bedrocksim.Unavailable)}, {20*minute + 10*time.Second, faults()},
	}
	// The fallback's phase begins soon after the breaker opened, in whole minutes
	// from there: a new ledger uses up a rolling minute early and then waits, and a
	// phase that began in between would count the wait and not what was used. So it
	// counts what the first two minutes hide in other scenarios: the two or three
	// 429s that tell a ledger the limiter's shape.
	takesOver := func(form) target { return target{goodput: 0.97, throttles: 1, extra: 3} }
	back := scenario{
		id: "10b", title: "fallback while the model is gone for 3.5 min, and return", length: 11 * minute,
		tracks: []track{
			quota("asked", "m", lite, region, 300),
			quota("fallback", "n", micro, region, 300),
		},
		streams:  []stream{{alias: "m", work: short}},
		fallback: map[string]string{"m": "n"},
		phases: []phase{
			{name: "gone", track: "fallback", from: 4*minute + 10*time.Second, to: 7*minute + 10*time.Second, left: true, want: takesOver},
			{name: "return", track: "asked", from: 9 * minute, to: 11 * minute, left: true, want: free},
		},
		settles: []settling{{"return", 7*minute + 30*time.Second, 0.9, 66 * time.Second}},
	}
	back.tracks[0].changes = []change{{4 * minute, all(bedrocksim.Unavailable)}, {7*minute + 30*time.Second, faults()}}

	// A breaker's probes are 60 s apart at most, and issue 5 gives 10 % more.
	storm := func(id, title string, minutes int, fault func(*bedrocksim.Model)) scenario {
		ends := time.Duration(3+minutes) * minute
		x := one(id, title, 3+minutes+4, 300, 0, short, bedrocksim.Model{}, nil).with(change{3 * minute, fault}, change{ends, faults()})
		x.phases = []phase{{name: "after", from: ends + 2*minute, to: x.length, left: true, want: always(0.97, 1)}}
		x.settles = []settling{{"resumed", ends, 0.9, 66 * time.Second}}
		return x
	}
	hang := storm("11c", "every request hangs for 5 min", 5, all(bedrocksim.Hang))
	hang.timeout = "30s"
	day := one("12", "the day's quota is gone from 3 to 23 min", 43, 300, 0, short, bedrocksim.Model{}, nil).with(
		change{3 * minute, func(m *bedrocksim.Model) { m.TPD = 1 }}, change{23 * minute, func(m *bedrocksim.Model) { m.TPD = 0 }})
	day.phases = []phase{
		{name: "gone", from: 4 * minute, to: 23 * minute, want: func(form) target { return target{extra: 2} }},
		{name: "after", from: 40 * minute, to: 43 * minute, want: always(0.97, 1)},
	}
	day.settles = []settling{{"resumed", 23 * minute, 0.9, 990 * time.Second}}

	several := func(id, title string, drainers int, fraction float64, want func(form) target) scenario {
		x := one(id, title, 10, 300, 0, short, bedrocksim.Model{}, want)
		x.drainers, x.fraction = drainers, fraction
		return x
	}
	return []scenario{
		mixed, front, queues, aliases, pool, back,
		storm("11a", "95 % of the answers are 503 for 10 min", 10, faults(bedrocksim.Fault{Kind: bedrocksim.Unavailable, Rate: 0.95})),
		storm("11b", "every answer is 503 for 3 min", 3, all(bedrocksim.Unavailable)),
		hang,
		storm("11d", "every answer is 424 for 3 min", 3, all(bedrocksim.ModelError)),
		day,
		several("15a", "two drainers with half of 300 RPM each", 2, 0.5, always(0.95, 1)),
		several("15b", "four drainers with a quarter of 300 RPM each", 4, 0.25, always(0.95, 1)),
		several("15c", "two drainers with all of 300 RPM each", 2, 0, always(0.90, 50)),
	}
}
