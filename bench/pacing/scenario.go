package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluicehq/sluice/internal/localaws/bedrocksim"
)

// form is a shape of the limiter, with a name for tables.
type form struct {
	name  string
	shape bedrocksim.Shape
	// hold is how long the quota takes to fill what the limiter lets through at
	// once: its bucket, or the minute.
	hold    time.Duration
	minutes bool // it counts minutes, and is no bucket
}

// forms are the shapes that each scenario runs on.
var forms = []form{
	{"rolling", bedrocksim.Rolling, time.Minute, true},
	{"bucket60", bedrocksim.Bucket(time.Minute), time.Minute, false},
	{"bucket10", bedrocksim.Bucket(10 * time.Second), 10 * time.Second, false},
	{"bucket3", bedrocksim.Bucket(3 * time.Second), 3 * time.Second, false},
	{"bucket2", bedrocksim.Bucket(2 * time.Second), 2 * time.Second, false},
	{"bucket1", bedrocksim.Bucket(time.Second), time.Second, false},
	{"calendar", bedrocksim.Calendar, time.Minute, true},
	{"bucket60+1", bedrocksim.All(bedrocksim.Bucket(time.Minute), bedrocksim.Bucket(time.Second)), time.Second, false},
}

// The models of the scenarios. Their family says nothing here: burndown and
// latency are given.
const (
	lite   = "amazon.nova-lite-v1:0"
	pro    = "amazon.nova-pro-v1:0"
	micro  = "amazon.nova-micro-v1:0"
	region = "us-east-1"
	west   = "us-west-2"
)

// scenario is one situation of issue 5, on whatever shape.
type scenario struct {
	id, title string
	length    time.Duration
	tracks    []track
	streams   []stream
	phases    []phase
	settles   []settling
	// actions happen to the drainers in mid-run.
	actions  []action
	drainers int     // 0: one
	fraction float64 // SLUICE_QUOTA_FRACTION; 0: 1
	queues   int     // 0: one
	fallback map[string]string
	env      []string // of the drainers, beside what all scenarios have
	timeout  string   // of the models
	pool     bool     // the tracks are one pool: their figures are summed
	fails    bool     // some jobs can't succeed
}

// track is one ledger: what is configured of it, and what is true.
type track struct {
	name     string
	alias    string
	modelID  string
	region   string
	rpm, tpm float64 // configured
	truth    bedrocksim.Model
	changes  []change
	// The work that the bound is given: that of the stream.
	stream uint64
	work   work
	from   time.Duration
	count  int
	also   []string // other aliases of the same quota
}

// stream is a flow of jobs into a queue: endless backlog unless counted.
type stream struct {
	alias string
	queue int
	work  work
	from  time.Duration
	count int
	// ahead is how many jobs are kept waiting; 0: two minutes' worth of the
	// tracks' true quota.
	ahead int
}

// byTheClock is the scenario with phases of whole minutes by the clock, for a
// limiter that counts those: of another minute's two parts, whoever starts early
// in one of them and late in the other gets much more, or less, than the quota.
// offset is how long before the run its first such minute began.
func (s *scenario) byTheClock(offset time.Duration) *scenario {
	const m = time.Minute
	earlier := func(t time.Duration) time.Duration { return (t + offset).Truncate(m) - offset }
	later := func(t time.Duration) time.Duration { return earlier(t + m - 1) }
	all := *s
	all.length += m
	all.phases = slices.Clone(s.phases)
	for i := range all.phases {
		p := &all.phases[i]
		p.from = later(p.from)
		if p.to == s.length { // what comes after is like it
			p.to = later(p.to)
		} else {
			p.to = earlier(p.to)
		}
	}
	return &all
}

// change is something that happens to a limiter.
type change struct {
	at    time.Duration
	apply func(*bedrocksim.Model)
}

// action is something that happens to the drainers.
type action struct {
	at time.Duration
	do func(*world)
}

// phase is a stretch of the run that has figures of its own.
type phase struct {
	name  string
	track string // of this track only
	// left says that the bound is the quota that is left: an omniscient
	// scheduler takes from a neighbour what that could not use in time, and on
	// minutes begins a phase with an empty one, or one that it must wait out.
	left     bool
	from, to time.Duration
	want     func(form) target
}

// target is what issue 5 asks of a phase. Zero fields ask nothing.
type target struct {
	goodput   float64 // part of the bound
	ofTold    bool    // or rather of what a pacer gets that was told the limiter
	throttles float64 // per 1,000 successes
	extra     float64 // and so many more in all
}

// settling is the time from a moment until the mean over the following half
// minute (minute, where the limiter counts those) reaches a level of the quota
// that is there then.
type settling struct {
	name   string
	after  time.Duration
	level  float64
	within time.Duration
}

// warm is what no figure counts.
const warm = 2 * time.Minute

func always(goodput, throttles float64) func(form) target {
	return func(form) target { return target{goodput: goodput, throttles: throttles} }
}

// one makes a scenario of one model with endless backlog.
func one(id, title string, minutes int, rpm, tpm float64, w work, truth bedrocksim.Model, want func(form) target) scenario {
	if truth.RPM == 0 && truth.TPM == 0 {
		truth.RPM, truth.TPM = rpm, tpm
	}
	length := time.Duration(minutes) * time.Minute
	return scenario{
		id: id, title: title, length: length,
		tracks:  []track{{alias: "m", modelID: lite, region: region, rpm: rpm, tpm: tpm, truth: truth, work: w}},
		streams: []stream{{alias: "m", work: w}},
		phases:  []phase{{from: warm, to: length, want: want}},
	}
}

// with changes a scenario's only limiter in mid-run.
func (s scenario) with(changes ...change) scenario {
	s.tracks[0].changes = changes
	return s
}

func neighbour(part float64) func(*bedrocksim.Model) {
	return func(m *bedrocksim.Model) { m.Neighbour = bedrocksim.Neighbour{Fraction: part} }
}

func rpm(v float64) func(*bedrocksim.Model) { return func(m *bedrocksim.Model) { m.RPM = v } }
func tpm(v float64) func(*bedrocksim.Model) { return func(m *bedrocksim.Model) { m.TPM = v } }

// overasking is the target of scenario 3: 98 % where the bucket holds four
// reservations or more.
func overasking(quota float64) func(form) target {
	return func(f form) target {
		if f.minutes || quota*f.hold.Minutes() >= 4*(850+4096) {
			return target{goodput: 0.98, throttles: 2}
		}
		return target{goodput: 0.93, ofTold: true, throttles: 10}
	}
}

// sized is the target of scenarios 5 and 6.
func sized(f form) target {
	if f.hold == time.Second {
		return target{goodput: 0.95, throttles: 20}
	}
	return target{goodput: 0.97, throttles: 2}
}

// changed is the target of scenario 7.
func changed(goodput float64) func(form) target {
	return func(f form) target {
		if f.minutes {
			return target{goodput: goodput, throttles: 100}
		}
		return target{goodput: goodput, throttles: 20}
	}
}

// crowded is the target of scenario 8 beside a neighbour that takes a part: 2
// per 100 and 12 per change, 10 per 100 on minutes.
func crowded(part float64) func(form) target {
	return func(f form) target {
		t := target{goodput: 0.90, throttles: 20, extra: 12}
		switch {
		case part > 0.4:
			t.throttles, t.extra = 60, 0
		case f.minutes:
			t.throttles = 100
		}
		return t
	}
}

const s, minute = time.Second, time.Minute

// scenarios are those of issue 5.
func scenarios() []scenario {
	all := []scenario{
		one("1", "requests bind, 300 RPM", 10, 300, 0, short, bedrocksim.Model{}, always(0.995, 1)),
		one("2a", "honest, 200k TPM", 10, 0, 200_000, honest, bedrocksim.Model{}, always(0.995, 1)),
		one("2b", "honest, 2M TPM", 12, 0, 2_000_000, honest, bedrocksim.Model{}, always(0.995, 1)),
		one("3a", "over-reserved, 400k TPM", 10, 0, 400_000, over, bedrocksim.Model{}, overasking(400_000)),
		one("3b", "over-reserved, 4M TPM", 8, 0, 4_000_000, over, bedrocksim.Model{}, overasking(4_000_000)),
		one("3c", "over-reserved, 100k TPM", 12, 0, 100_000, over, bedrocksim.Model{}, overasking(100_000)),
	}
	for _, burndown := range []float64{5, 10, 15} {
		all = append(all, one(fmt.Sprintf("4-%v", burndown), fmt.Sprintf("settles more than it reserves, burndown %v", burndown), 10,
			0, 1_000_000, burn, bedrocksim.Model{TPM: 1_000_000, Burndown: burndown}, always(0.97, 5)))
	}
	all = append(all,
		one("5a", "mixed sizes, 300k TPM", 20, 0, 300_000, mixed, bedrocksim.Model{}, sized),
		one("5b", "mixed sizes, 3M TPM", 12, 0, 3_000_000, mixed, bedrocksim.Model{}, sized),
		one("5c", "some larger than a minute, 60k TPM", 42, 0, 60_000, oversize, bedrocksim.Model{}, sized),
		one("6a", "four unlike tenants, images", 10, 0, 600_000, unalike, bedrocksim.Model{}, sized),
		one("6b", "text 30 % denser than believed", 10, 0, 600_000, dense, bedrocksim.Model{}, sized),
		one("7a", "600 RPM configured, 300 true", 8, 600, 0, short, bedrocksim.Model{RPM: 300}, changed(0.94)),
		one("7b", "300 RPM configured, 600 true", 8, 300, 0, short, bedrocksim.Model{RPM: 600}, changed(0.94)),
		one("7c", "400k TPM configured, 200k true", 12, 0, 400_000, honest, bedrocksim.Model{TPM: 200_000}, changed(0.94)),
		one("7d", "200k TPM configured, 400k true", 12, 0, 200_000, honest, bedrocksim.Model{TPM: 400_000}, changed(0.94)),
	)
	cut := one("7e", "300 RPM cut to 150 at 5 min", 15, 300, 0, short, bedrocksim.Model{}, nil).with(change{5 * minute, rpm(150)})
	cut.phases = []phase{{name: "before", from: warm, to: 5 * minute, want: changed(0.94)}, {name: "after", from: 5*minute + 10*s, to: 14*minute + 10*s, want: changed(0.94)}}
	cut.settles = []settling{{"cut", 5 * minute, 0.9, 10 * s}}
	raise := one("7f", "300 RPM raised to 600 at 5 min", 15, 300, 0, short, bedrocksim.Model{}, nil).with(change{5 * minute, rpm(600)})
	raise.phases = []phase{{name: "before", from: warm, to: 5 * minute, want: changed(0.94)}, {name: "after", from: 9 * minute, to: 15 * minute, left: true, want: changed(0.94)}}
	raise.settles = []settling{{"raise", 5 * minute, 0.9, 200 * s}} // 1,000 successes at 300 a minute
	dip := one("7g", "400k TPM halved from 5 to 10 min", 16, 0, 400_000, honest, bedrocksim.Model{}, nil).
		with(change{5 * minute, tpm(200_000)}, change{10*minute + 10*s, tpm(400_000)})
	dip.phases = []phase{{name: "halved", from: 5*minute + 10*s, to: 10*minute + 10*s, want: changed(0.94)}, {name: "back", from: 13 * minute, to: 16 * minute, left: true, want: changed(0.94)}}
	dip.settles = []settling{{"cut", 5 * minute, 0.9, 10 * s}, {"back", 10*minute + 10*s, 0.9, 500 * minute / 200}}

	steps := func(id, title string, rpm, tpm float64, w work) scenario {
		x := one(id, title, 14, rpm, tpm, w, bedrocksim.Model{}, nil).with(
			change{3 * minute, neighbour(0.4)}, change{6*minute + 10*s, neighbour(0.8)}, change{10*minute + 20*s, neighbour(0)})
		x.phases = []phase{
			{name: "40 %", from: 3*minute + 10*s, to: 6*minute + 10*s, left: true, want: crowded(0.4)},
			{name: "80 %", from: 6*minute + 20*s, to: 10*minute + 20*s, left: true, want: crowded(0.8)},
			{name: "gone", from: 12 * minute, to: 14 * minute, left: true, want: always(0.95, 0)},
		}
		x.settles = []settling{
			{"40 %", 3 * minute, 0.9, 10 * s}, {"80 %", 6*minute + 10*s, 0.9, 10 * s}, {"gone", 10*minute + 20*s, 0.95, 90 * s},
		}
		return x
	}
	bursts := one("8c", "neighbour takes 80 % for 10 s in 30", 12, 300, 0, short, bedrocksim.Model{}, nil).
		with(change{2 * minute, func(m *bedrocksim.Model) {
			m.Neighbour = bedrocksim.Neighbour{Fraction: 0.8, On: 10 * s, Off: 20 * s}
		}})
	bursts.phases = []phase{{name: "", from: 3 * minute, to: 12 * minute, left: true, want: always(0.85, 100)}}
	rare := one("8e", "neighbour takes all for 10 s in 45", 17, 300, 0, short, bedrocksim.Model{}, nil).
		with(change{2 * minute, func(m *bedrocksim.Model) {
			m.Neighbour = bedrocksim.Neighbour{Fraction: 1, On: 10 * s, Off: 35 * s}
		}})
	rare.phases = []phase{{name: "", from: 3 * minute, to: 17 * minute, left: true, want: always(0.85, 100)}}
	half := one("8d", "neighbour takes 50 %, over-reserved, 400k TPM", 12, 0, 400_000, over, bedrocksim.Model{Neighbour: bedrocksim.Neighbour{Fraction: 0.5}, TPM: 400_000}, crowded(0.8))
	all = append(all, cut, raise, dip,
		steps("8a", "neighbour takes 40, 80, 0 % of 300 RPM", 300, 0, short),
		steps("8b", "neighbour takes 40, 80, 0 % of 400k TPM", 0, 400_000, honest),
		bursts, half, rare,
		one("13a", "2 RPM", 42, 2, 0, short, bedrocksim.Model{}, always(0.995, 1)),
		one("13b", "10,000 TPM", 42, 0, 10_000, honest, bedrocksim.Model{}, always(0.995, 1)),
		one("13c", "10,000 RPM", 4, 10_000, 0, short, bedrocksim.Model{}, always(0.995, 1)),
		one("13d", "6M TPM", 5, 0, 6_000_000, honest, bedrocksim.Model{}, always(0.995, 1)),
	)
	idle := one("14a", "idle for 5 min, then 1,000 jobs, 300 RPM", 9, 300, 0, short, bedrocksim.Model{}, nil)
	idle.tracks[0].from, idle.tracks[0].count = 5*minute, 1_000
	idle.streams[0].from, idle.streams[0].count = 5*minute, 1_000
	idle.actions = []action{{5*minute + s, (*world).note}}
	idle.phases = []phase{{name: "", from: 5 * minute, to: 8 * minute, want: always(0, 10)}}
	restart := one("14b", "restart in the middle of a full minute, 300 RPM", 8, 300, 0, short, bedrocksim.Model{}, nil)
	restart.actions = []action{{3*minute + 30*s, func(w *world) { w.restart(0) }}}
	restart.phases = []phase{{name: "", from: 3*minute + 30*s, to: 8 * minute, want: always(0.90, 10)}}
	all = append(all, idle, restart)
	for i := range all {
		all[i].fails = all[i].id == "5c"
	}
	return append(all, others()...)
}

func byID(id string) (scenario, bool) {
	for _, s := range scenarios() {
		if s.id == id {
			return s, true
		}
	}
	return scenario{}, false
}
