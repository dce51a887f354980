package worker

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/pacing"
)

// fine answers every request and keeps every result.
type fine struct{}

func (fine) Preflight(context.Context) error                      { return nil }
func (fine) Look(context.Context, job.Claim) (job.Verdict, error) { return job.Open, nil }
func (fine) Save(context.Context, job.Claim, job.Result) (job.Verdict, error) {
	return job.Open, nil
}
func (fine) Invoke(context.Context, job.Route, job.Kind, []byte) (job.Answer, error) {
	return job.Answer{Output: []byte("{}")}, nil
}

// newTestWorker makes a worker of one queue and one model without a quota, in
// which a delivery can be lived.
func newTestWorker(t *testing.T, with func(*Options)) *Worker {
	o := Options{
		Sources: []Source{{Queue: &script{}, Name: "q", Retention: time.Hour, Offset: func() time.Duration { return 0 }}},
		Dead:    &script{}, Model: fine{}, Sink: fine{}, Log: slog.New(slog.DiscardHandler),
		Measure: func(job.Route, job.Kind, []byte) job.Size { return job.Size{Text: 1, MaxTokens: 1} },
		Resolve: func(name string) (string, bool) { return name, true },
		Models:  []ModelOptions{{Alias: "m", MaxInFlight: 10, Burndown: 1, Timeout: time.Minute, Routes: []RouteOptions{{}}}},

		MaxInFlight: 10, MaxInFlightBytes: 1 << 30, Visibility: 2 * time.Minute, Hold: 20 * time.Second, MaxReceives: 50, Grace: 25 * time.Second,
	}
	with(&o)
	w := New(o)
	t.Cleanup(w.disp.stop)
	w.taking, w.invoking, w.calling = t.Context(), t.Context(), t.Context()
	return w
}

// liveJob lives a delivery of a job for the model.
func (w *Worker) liveJob(id string) {
	d := job.Delivery{MessageID: id, Handle: id, Body: []byte(`{"id":"` + id + `","model":"m","invoke":{}}`), Receives: 1, Sent: time.Now()}
	w.live(&task{lease: w.keep[0].add(d, time.Now()), d: d, turn: make(chan struct{}, 1)})
}

// A lease that ends while its job is being given the grant takes no slot along.
func TestALostLeaseLeavesNoGrant(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w *Worker
		w = newTestWorker(t, func(o *Options) {
			o.Trace = func(e pacing.Event) {
				if e.What == pacing.Started {
					k := w.keep[0]
					k.mu.Lock()
					k.agenda[extend].Front().Value.(*lease).deadline = time.Now()
					k.mu.Unlock()
				}
			}
		})
		w.liveJob("a")
		if s := w.Snapshot(); s.InFlight != 0 || s.Models[0].Routes[0].InFlight != 0 {
			t.Errorf("in flight afterwards: %d, on the route %d", s.InFlight, s.Models[0].Routes[0].InFlight)
		}
	})
}

// A clock that is set forward expires no job that is held: its times go on by
// the monotonic clock.
func TestDeadlinesAreMonotonic(t *testing.T) {
	t.Parallel()
	w := newTestWorker(t, func(*Options) {})
	in := func(d time.Duration) time.Time { return time.Now().Add(d).Round(0) }
	for what, task := range map[string]*task{
		"the retention's": {d: job.Delivery{Sent: in(-time.Minute), Body: []byte(`{"id":"a","model":"m","invoke":{}}`)}},
		"its own":         {d: job.Delivery{Sent: in(-time.Minute), Body: []byte(`{"id":"a","model":"m","invoke":{},"deadline":"` + in(time.Minute).Format(time.RFC3339) + `"}`)}},
	} {
		if err := w.read(task); err != nil {
			t.Fatal(err)
		}
		if task.deadline == task.deadline.Round(0) || task.submitted == task.submitted.Round(0) {
			t.Errorf("%s: submitted %v, deadline %v; want both on the monotonic clock", what, task.submitted, task.deadline)
		}
	}
}

// stuck is a log that nobody reads.
type stuck chan struct{}

func (stuck) Enabled(context.Context, slog.Level) bool    { return true }
func (s stuck) Handle(context.Context, slog.Record) error { <-s; return nil }
func (s stuck) WithAttrs([]slog.Attr) slog.Handler        { return s }
func (s stuck) WithGroup(string) slog.Handler             { return s }

// refusing is a model whose access is refused.
type refusing struct{}

func (refusing) Invoke(context.Context, job.Route, job.Kind, []byte) (job.Answer, error) {
	return job.Answer{}, &job.Failure{Reason: job.Unauthorized}
}

// A log that blocks stops no grants and no leases.
func TestNothingIsLoggedUnderALock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := make(stuck)
		w := newTestWorker(t, func(o *Options) {
			o.Log, o.Model = slog.New(log), refusing{}
			o.Sources[0].Queue = &script{fail: func(string, string) error { return job.ErrGone }}
		})
		go func() {
			for _, id := range []string{"a", "b", "c"} { // the third stops the route
				w.liveJob(id)
			}
		}()
		synctest.Wait()
		if !w.disp.mu.TryLock() {
			t.Error("a change of the route is logged under the dispatcher's lock")
		} else {
			w.disp.mu.Unlock()
		}
		k := w.keep[0]
		k.lease("lost")
		go k.run(t.Context())
		time.Sleep(time.Minute)
		synctest.Wait()
		if !k.mu.TryLock() {
			t.Error("a lost lease is logged under the keeper's lock")
		} else {
			k.mu.Unlock()
		}
		close(log)
		k.finish()
	})
}
