package worker

import (
	"errors"
	"sync"
	"time"

	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/pacing"
)

const (
	// parallelReceives go out at once on a queue whose last receive came back
	// full: one at a time would bound the intake to ten messages a round trip.
	parallelReceives = 4
	// askAgain bounds how long room that time alone makes goes unnoticed.
	askAgain = time.Second
	// receiveFirst and receiveLongest space the tries on a queue that refuses.
	receiveFirst   = time.Second
	receiveLongest = 30 * time.Second
	// sampleEvery is how often a queue that seems to bring only what can't start
	// is looked at all the same.
	sampleEvery = 10 * time.Second
	// mixLength messages tell what parts of a queue are whose.
	mixLength = 100
	// lookPast messages in a row for other models, a queue is believed to bring
	// none for this one, until a sample does. Smaller: jobs of a free model
	// starve behind so many of one that is saturated or parked. Larger: a queue
	// in which there are none to be found is received and released in vain so
	// far, by each process once: 500 receives, as many batches of releases, and
	// 5,000 looks for a result.
	lookPast = 5_000
)

// receiveLoop takes messages in until the worker is told to stop. An open long
// poll is let finish: cancelled, its messages would be invisible and nobody's
// for the whole visibility timeout.
func (w *Worker) receiveLoop(source int) {
	failures := 0
	for w.taking.Err() == nil {
		most, polls := w.intake(source)
		if most == 0 {
			w.await(source)
			continue
		}
		made := time.Now()
		err := w.receive(source, most, polls)
		w.queues[source].report(made, err)
		if err == nil {
			failures = 0
			continue
		}
		failures++
		pause := pacing.Backoff(failures, receiveFirst, receiveLongest, 1)
		if errors.Is(err, job.ErrDenied) {
			pause = receiveLongest // no repetition mends it soon
		}
		sleep(w.taking, jitter(pause))
	}
}

// intake is how many messages to ask for now, and in how many calls.
func (w *Worker) intake(source int) (most, polls int) {
	x := w.mixes[source]
	most = min(w.disp.want(source, x, time.Now()), int(w.room.free()/job.MaxBody))
	polls = 1
	if x.full() {
		polls = min(max(1, most/batchSize), parallelReceives)
	} else {
		// A long poll may bring nothing for as long as it lasts. Those of all queues
		// take half of the room, or the last queue would never get any.
		most = min(most, max(1, int(w.room.max/2/job.MaxBody)/len(w.mixes)))
	}
	return min(most, batchSize), polls
}

// await waits until there may be room for more.
func (w *Worker) await(source int) {
	timer := time.NewTimer(askAgain)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.disp.room[source]:
	case <-w.taking.Done():
	}
}

// receive makes the calls, and starts the life of what they bring.
func (w *Worker) receive(source, most, polls int) error {
	// Half of a visibility is left to what comes at its end: the keeper counts from its
	// beginning.
	wait := min(pollWait, w.o.Grace-lastCalls, w.o.Visibility/2)
	if polls > 1 {
		wait = 0 // the slowest would hold up the rest
	}
	errs := make([]error, polls)
	var calls sync.WaitGroup
	for i := range polls {
		calls.Go(func() { errs[i] = w.receiveOnce(source, most, wait) })
	}
	calls.Wait()
	return errors.Join(errs...)
}

func (w *Worker) receiveOnce(source, most int, wait time.Duration) error {
	w.room.add(int64(most) * job.MaxBody) // until it is read, each may be as large
	defer w.room.add(-int64(most) * job.MaxBody)
	asked := time.Now()
	ds, err := w.o.Sources[source].Queue.Receive(w.calling, most, wait, w.o.Visibility)
	if err != nil {
		return err
	}
	w.mixes[source].received(len(ds) == most, time.Now())
	w.stats.receive(source, len(ds))
	for _, d := range ds {
		l := w.keep[source].add(d, asked)
		if w.taking.Err() != nil {
			l.release(0)
			continue
		}
		t := &task{source: source, d: d, lease: l, bytes: int64(len(d.Body)), turn: make(chan struct{}, 1)}
		w.room.add(t.bytes)
		w.disp.arrive(t)
		w.tasks.Go(func() { w.live(t) })
	}
	return nil
}

// mix is what the last messages of a source were for.
type mix struct {
	mu      sync.Mutex
	n       int               // messages noted in all
	latest  map[*model]int    // the number of the last one for the model
	ring    [mixLength]*model // the last messages; nil: of no configured model
	count   map[*model]int    // in the ring
	last    time.Time         // of the last receive
	wasFull bool              // it brought all that was asked for
}

// note counts a message for the model.
func (x *mix) note(m *model) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.count == nil {
		x.latest, x.count = map[*model]int{}, map[*model]int{}
	}
	slot := &x.ring[x.n%mixLength]
	if x.n >= mixLength {
		x.count[*slot]--
	}
	*slot = m
	x.count[m]++
	x.n++
	x.latest[m] = x.n
}

// brings says whether the source may bring jobs for the model.
func (x *mix) brings(m *model) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.n-x.latest[m] < lookPast
}

// parts is the part of each model in the last messages.
func (x *mix) parts() map[string]float64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	parts := map[string]float64{}
	for m, n := range x.count {
		name := ""
		if m != nil {
			name = m.Alias
		}
		if n > 0 {
			parts[name] = float64(n) / float64(min(x.n, mixLength))
		}
	}
	return parts
}

// sample is what to receive of a source that seems to bring only what can't
// start: a batch, if none was received for a while.
func (x *mix) sample(now time.Time) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	if now.Sub(x.last) < sampleEvery {
		return 0
	}
	return batchSize
}

func (x *mix) received(full bool, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.last, x.wasFull = now, full
}

func (x *mix) full() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.wasFull
}
