package worker

import (
	"log/slog"
	"testing"
	"time"

	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/pacing"
)

// twoQueues is a dispatcher of one model that two queues bring jobs for, when its
// first minute is over.
func twoQueues(t *testing.T, rpm float64) (d *dispatcher, now time.Time) {
	d = newDispatcher(Options{
		Sources: make([]Source, 2), MaxInFlight: 1000, Hold: 20 * time.Second, Log: slog.New(slog.DiscardHandler),
		Models: []ModelOptions{{Alias: "m", MaxInFlight: 1000, Routes: []RouteOptions{{Limits: pacing.Limits{RPM: rpm}}}}},
	})
	t.Cleanup(d.stop)
	return d, time.Now().Add(2 * time.Minute)
}

// What is released of one queue is no reason to receive another less.
func TestReleasesCountByQueue(t *testing.T) {
	t.Parallel()
	d, now := twoQueues(t, 6000)
	for range maxReleased {
		d.away(&task{source: 0}, time.Hour)
	}
	if n := d.want(0, &mix{}, now); n != batchSize {
		t.Errorf("%d wanted of the queue of which %d are away, want a sample of %d", n, maxReleased, batchSize)
	}
	if n := d.want(1, &mix{}, now); n <= batchSize {
		t.Errorf("%d wanted of the other queue, for a model of 6,000 a minute", n)
	}
}

// The lower queue's part is received while the higher one fills all the rest.
func TestTheLowerQueueIsReceivedInItsPart(t *testing.T) {
	t.Parallel()
	d, now := twoQueues(t, 300)
	m := d.order[0]
	m.held[0] = m.capacity(d.hold*3/4, now)
	part := (m.held[0] + lowerTurns - 1) / lowerTurns
	if n := d.want(1, &mix{}, now); n != part {
		t.Errorf("%d wanted of the lower queue, want %d beside the %d of the higher", n, part, m.held[0])
	}
	m.held[1] = part
	if n := d.want(1, &mix{}, now); n != 0 {
		t.Errorf("%d more wanted of the lower queue, of which %d are held", n, part)
	}
}

// A released job comes after those that are away, unless they left places empty.
func TestReleasedJobsTakeThePlacesThatAreLeft(t *testing.T) {
	t.Parallel()
	d, now := twoQueues(t, 6) // ten seconds each
	m, first := d.order[0], now.Add(time.Minute)
	for i := range 100 {
		want := first.Add(time.Duration(i) * 10 * time.Second)
		if place := m.schedule(first, d.hold, now); place != want {
			t.Fatalf("place %d is %v from now, want %v", i, place.Sub(now), want.Sub(now))
		}
		m.absent++
	}
	end := m.horizon
	m.absent -= 10 // came back, and started in the places of others
	for range 50 {
		place := m.schedule(first, d.hold, now)
		if place.Before(first.Add(d.hold)) || place.After(end) || m.horizon != end {
			t.Errorf("a place %v from now, of a schedule from %v to %v", place.Sub(now), first.Sub(now), m.horizon.Sub(now))
		}
	}
	m.absent += 10
	if place := m.schedule(first, d.hold, now); place != end {
		t.Errorf("no place was left, and one %v from now was given, not %v", place.Sub(now), end.Sub(now))
	}
}

// A job that is released while it waits for the fallback of its model is away for
// the fallback, whose place it takes.
func TestAReleasedJobIsAwayForTheModelItWaitsFor(t *testing.T) {
	t.Parallel()
	model := func(alias string, rpm float64) ModelOptions {
		return ModelOptions{Alias: alias, MaxInFlight: 10, Routes: []RouteOptions{{
			Route: job.Route{ModelID: alias}, Quota: alias, Limits: pacing.Limits{RPM: rpm},
		}}}
	}
	d := newDispatcher(Options{
		Sources: make([]Source, 1), MaxInFlight: 10, Hold: 20 * time.Second, Log: slog.New(slog.DiscardHandler),
		Models: []ModelOptions{model("parked", 60), model("slow", 0.5)},
	})
	t.Cleanup(d.stop)
	parked, slow := d.order[0], d.order[1]
	now := time.Now().Add(2 * time.Minute)
	route := parked.routes[0]
	route.End(route.Start(firstCharge, now), pacing.Exhausted, 0, 0, 1, now)
	for range 5 { // the next in minutes, even where the ledger explores
		slow.routes[0].Start(firstCharge, now)
	}
	task := &task{
		chain: []choice{{model: parked}, {model: slow}}, record: &record{}, lease: &lease{received: now},
		deadline: now.Add(24 * time.Hour), turn: make(chan struct{}, 1),
	}
	d.admit(task)
	_, delay, stays := d.stand(task, false, true, now)
	if stays || delay <= 0 {
		t.Fatalf("stays: %v, released for %v; want it released until its place is near", stays, delay)
	}
	d.away(task, delay)
	if parked.absent != 0 || slow.absent != 1 {
		t.Errorf("away for the parked model: %d, for its fallback: %d", parked.absent, slow.absent)
	}
}

func TestAMixLooksPastOthers(t *testing.T) {
	t.Parallel()
	open, closed := &model{}, &model{}
	var x mix
	want := func(brings bool) {
		t.Helper()
		if got := x.brings(open); got != brings {
			t.Errorf("brings the model: %v, want %v", got, brings)
		}
	}
	pass := func(n int) {
		for range n {
			x.note(closed)
		}
	}
	want(true) // nobody knows yet
	pass(lookPast - 1)
	want(true)
	pass(1)
	want(false)
	x.note(open)
	want(true)
	pass(lookPast - 1)
	want(true)
	pass(1)
	want(false)
}
