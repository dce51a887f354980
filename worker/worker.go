// Package worker is the drain loop: it takes jobs from queues at the pace that
// pacing permits, has them answered, leaves one result for each, and settles
// every delivery. It holds no AWS client and reads no configuration: its ports
// (below) are filled by internal/drainer, its clock is time.Now, and what it
// did is read from Snapshot. It may import job and pacing only.
//
// Read delivery.go first: it is the life of one delivery from top to bottom.
// dispatcher.go hands out the grants, keeper.go owns the leases, receive.go
// decides how much to take in.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/pacing"
)

// Queue is a queue of messages. Errors of single entries stand at the index of
// their entry; those that no repetition will mend wrap job.ErrGone.
type Queue interface {
	URL() string
	Receive(ctx context.Context, most int, wait, visibility time.Duration) ([]job.Delivery, error)
	SetVisibility(ctx context.Context, changes []job.Visibility) []error
	Delete(ctx context.Context, handles []string) []error
	Send(ctx context.Context, m job.Message) error
}

// Model invokes models. Its errors are *job.Failure, or the context's.
type Model interface {
	Invoke(ctx context.Context, r job.Route, k job.Kind, request []byte) (job.Answer, error)
}

// Sink is where results go.
type Sink interface {
	// Preflight proves that an answer could be kept.
	Preflight(ctx context.Context) error
	Look(ctx context.Context, c job.Claim) (job.Verdict, error)
	Save(ctx context.Context, c job.Claim, r job.Result) (job.Verdict, error)
}

// Copier sends copies of results to a queue.
type Copier interface {
	Copy(ctx context.Context, r job.Result) error
	CopyStored(ctx context.Context, id job.Identity) error
}

// Payloads reads jobs too large for a message.
type Payloads interface {
	Get(ctx context.Context, uri string) ([]byte, error)
}

// Source is one job queue, in order of priority.
type Source struct {
	Queue     Queue
	Name      string
	Retention time.Duration // how long the queue keeps a message
	// Offset returns the queue's clock minus ours.
	Offset func() time.Duration
}

// Options is what a Worker is made of.
type Options struct {
	Sources  []Source // at least one
	Dead     Queue    // where buried jobs go
	Model    Model
	Measure  func(r job.Route, k job.Kind, request []byte) job.Size
	Sink     Sink
	Copier   Copier   // nil: no copies
	Payloads Payloads // nil: no payload prefix
	Models   []ModelOptions
	// Resolve finds the alias that serves a name a job asked for.
	Resolve func(name string) (alias string, ok bool)

	MaxInFlight      int           // invocations at once
	MaxInFlightBytes int64         // bodies and unsaved outputs held at once
	Visibility       time.Duration // of every receive
	Hold             time.Duration // a wait up to this keeps the lease
	MaxReceives      int           // a delivery received more often is buried
	Grace            time.Duration // from the stop to the last release
	// Trace hears what happens on the ledgers, one event after the other, and
	// returns at once; nil: nobody listens.
	Trace func(pacing.Event)
	Log   *slog.Logger
}

// ModelOptions is one configured model.
type ModelOptions struct {
	Alias         string
	Routes        []RouteOptions
	Burndown      float64
	MaxTokens     int64 // reserved for a request without a bound of its own
	MaxInFlight   int
	Timeout       time.Duration
	Fallback      []string
	FallbackAfter time.Duration // from submission; 0: only when the model is out
	Family        string        // `invoke` bodies fall back within one family only
}

// RouteOptions is one route of a model.
type RouteOptions struct {
	job.Route
	Quota  string // routes of one (Region, Quota) share a ledger
	Limits pacing.Limits
	// Undivided is the account's whole TPM, before this drainer's fraction; 0
	// where tokens are not limited.
	Undivided float64
}

// Worker drains queues. Make one with New, and Run it once.
type Worker struct {
	o    Options
	log  *slog.Logger
	disp *dispatcher
	jobs registry
	keep []*keeper // by source
	room bytesBudget

	tasks sync.WaitGroup // deliveries being lived
	stats stats

	sink, dead, copies, payloads *outage
	queues                       []*outage // by source
	mixes                        []*mix    // by source

	// Three contexts end one after the other when the worker stops: taking jobs,
	// waiting for models, and every other call.
	taking, invoking, calling context.Context
}

// The stop's last stretches, counted back from the end of the grace.
const (
	// lastCalls is left for puts, burials and renewals once no model is waited
	// for any more.
	lastCalls = 5 * time.Second
	// lastReleases is left for releases and deletes once all else was given up.
	lastReleases = 2 * time.Second
	// pollWait is SQS's longest long poll: each costs one request whether it
	// brings a message or not.
	pollWait = 20 * time.Second
)

// New returns a worker that has not received anything yet.
func New(o Options) *Worker {
	w := &Worker{o: o, log: o.Log}
	w.stats.start(o)
	w.disp = newDispatcher(o)
	w.room.max = o.MaxInFlightBytes
	w.jobs.start()
	for _, s := range o.Sources {
		w.keep = append(w.keep, newKeeper(s, o.Visibility, o.Log, &w.stats))
		w.mixes = append(w.mixes, &mix{})
		w.queues = append(w.queues, &outage{name: "queue " + s.Name, log: o.Log})
	}
	w.sink = &outage{name: "results", log: o.Log, check: o.Sink.Preflight, changed: w.suspension}
	w.copies = &outage{name: "copies of results", log: o.Log}
	w.payloads = &outage{name: "payloads", log: o.Log}
	w.dead = &outage{name: "dead-letter queue", log: o.Log}
	return w
}

// Run drains until stop is done, then winds up within the grace: nothing new is
// received or started; what has not started is released at once; invocations
// may finish until lastCalls before the end. It returns when every delivery is
// deleted, released, or lost.
func (w *Worker) Run(stop context.Context) {
	var endInvoking, endCalling, endReleases context.CancelCauseFunc
	base := context.WithoutCancel(stop)
	w.taking = stop
	w.calling, endCalling = context.WithCancelCause(base)
	w.invoking, endInvoking = context.WithCancelCause(w.calling)
	releases, endReleases := context.WithCancelCause(base)
	defer endReleases(nil)
	defer endCalling(nil)
	defer endInvoking(nil)

	w.sink.run = w.calling
	var keepers, receivers sync.WaitGroup
	for _, k := range w.keep {
		keepers.Go(func() { k.run(releases) })
	}
	for i := range w.o.Sources {
		receivers.Go(func() { w.receiveLoop(i) })
	}

	<-stop.Done()
	began, before := time.Now(), w.Snapshot()
	w.log.Info("stopping", "cause", context.Cause(stop), "grace", w.o.Grace)
	w.disp.stop()
	var timers []*time.Timer
	for _, t := range []struct {
		left time.Duration
		end  context.CancelCauseFunc
	}{{lastCalls, endInvoking}, {lastReleases, endCalling}, {0, endReleases}} {
		timers = append(timers, time.AfterFunc(w.o.Grace-t.left, func() { t.end(errStopping) }))
	}
	receivers.Wait()
	w.tasks.Wait()
	for _, k := range w.keep {
		k.finish()
	}
	keepers.Wait()
	for _, t := range timers {
		t.Stop()
	}
	after := w.Snapshot()
	w.log.Info("stopped", "finished", after.Receives.N-before.Receives.N, "cancelled", after.Cancelled,
		"released", after.Releases-before.Releases, "took", time.Since(began).Round(time.Millisecond))
}

var errStopping = errors.New("the drainer is stopping")

// Ready says why the worker could not do its work now, or nil.
func (w *Worker) Ready() error {
	var errs []error
	for _, o := range append([]*outage{w.sink, w.dead}, w.queues...) {
		errs = append(errs, o.err())
	}
	for _, k := range w.keep {
		errs = append(errs, k.visible.err(), k.deletes.err())
	}
	if n := w.stats.copiesWaiting.Load(); n >= maxCopiesWaiting {
		errs = append(errs, fmt.Errorf("%d copies of results can't be sent", n))
	}
	return errors.Join(append(errs, w.disp.usable())...)
}

// suspension is called when the sink or the copies fail or recover: no answer is
// paid for that can't be kept.
func (w *Worker) suspension() {
	w.disp.suspend(func() bool {
		return w.sink.err() != nil || w.stats.copiesWaiting.Load() >= maxCopiesWaiting
	})
}
