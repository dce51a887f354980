package worker

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
	"unicode"

	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/pacing"
)

// task is one delivery on its way through the worker.
type task struct {
	source int
	d      job.Delivery
	lease  *lease
	log    *slog.Logger
	bytes  int64 // held of the budget

	job       job.Job
	claim     job.Claim // its identity, digest and submission
	named     bool      // somebody can wait for a result of this identity
	submitted time.Time // on our clock, never in the future
	deadline  time.Time // on our clock: the effective one
	kept      time.Time // on our clock: SQS keeps the message until a little later
	offset    time.Duration
	hash      uint64 // of the identity
	record    *record
	chain     []choice // the model asked for, then its fallbacks

	started   time.Time
	attempts  int
	throttles int

	// Below: guarded by dispatcher.mu.
	seq      uint64
	arriving bool
	ending   bool
	heldBy   *model
	in       *model // in whose line it stands
	elem     *list.Element
	grant    *grant
	large    bool          // released until there is a minute for it alone
	turn     chan struct{} // buffered 1: the grant is here, or the place must be chosen again
}

// choice is a model that may answer a job, and the job's size to it.
type choice struct {
	model *model
	size  pacing.Size
}

// ending is the one way in which a delivery leaves the worker.
type ending struct {
	did   disposition
	delay time.Duration // of a release
}

type disposition uint8

const (
	released disposition = iota // it will be received again
	done                        // its result is durable, or it is buried: delete it
	dropped                     // the lease is lost, or a newer delivery's lease was given to the first
	renewed                     // sent again as a fresh message: delete this one
)

var (
	finished = ending{did: done}
	lostIt   = ending{did: dropped}
)

func back(delay time.Duration) ending { return ending{did: released, delay: delay} }

// live is the life of a delivery.
func (w *Worker) live(t *task) {
	defer func() {
		w.disp.gone(t)
		w.room.add(-t.bytes)
	}()
	switch e := w.claimed(t); e.did {
	case released:
		w.disp.away(t, e.delay)
		t.lease.release(e.delay)
	case done, renewed:
		w.stats.receives(t.d.Receives)
		t.lease.delete()
	case dropped:
		t.lease.release(0) // if it lapsed and was not told to be gone
	}
}

// claimed lives a delivery whose identity no other delivery in this process has
// now.
func (w *Worker) claimed(t *task) ending {
	problem := w.read(t)
	if first := w.jobs.claim(t); first != nil {
		if first.d.MessageID == t.d.MessageID {
			first.lease.adopt(t.lease)
			return lostIt
		}
		return back(floor(first.lease.received, time.Now()))
	}
	e := w.answer(t, problem)
	if e.did == released {
		e = w.renew(t, e.delay)
	}
	w.jobs.yield(t, e.did == released || e.did == renewed)
	return e
}

// answer gets the job its result: look, grant, invoke, settle, result.
func (w *Worker) answer(t *task, problem error) ending {
	if problem != nil {
		return w.unreadable(t, problem)
	}
	unknown := w.choose(t)
	if unknown == nil {
		w.disp.admit(t)
	}
	verdict, err := w.look(t)
	switch {
	case err != nil:
		return w.giveUp(t)
	case verdict == job.Answered:
		return w.copyStored(t)
	case verdict == job.Contested:
		return w.bury(t, conflict)
	case unknown != nil:
		return w.bury(t, unknown)
	case t.d.Receives > w.o.MaxReceives:
		return w.bury(t, tooManyReceives)
	}

	if f := w.disp.oversize(t); f != nil {
		return w.finish(t, nil, nil, f)
	}
	for {
		if t.expired(time.Now()) {
			return w.finish(t, nil, nil, expired)
		}
		g, delay := w.disp.acquire(t)
		switch {
		case g == nil && !t.lease.held(): // a grant is used, or it would never be settled
			return lostIt
		case g == nil && t.expired(time.Now()):
			continue
		case g == nil:
			return back(delay)
		}
		answer, failure, err := w.invoke(t, g)
		switch {
		case err != nil:
			return back(0) // we are stopping
		case failure == nil:
			return w.finish(t, g, answer, nil)
		}
		next, over := w.treat(t, g, failure)
		switch {
		case over:
			return w.finish(t, g, nil, failure)
		case next > w.o.Hold:
			return back(min(next, slowestFloor, t.nextMoment(time.Now())))
		case !w.pause(t, next):
			return w.giveUp(t)
		}
	}
}

// read decodes the job and, where that succeeds, all that follows from it. The
// claim holds what could be read in any case.
func (w *Worker) read(t *task) (problem error) {
	now := time.Now()
	t.offset = w.o.Sources[t.source].Offset()
	submitted := t.d.Trail.Submitted
	if submitted.IsZero() || t.d.Trail.Reason != "" {
		submitted = t.d.Sent // brought back from the dead-letter queue: a new submission
		t.d.Trail.Attempts = 0
	}
	t.claim.Submitted = submitted
	// On our monotonic clock, as all that is made of it: a clock that is set forward
	// would expire every job that is held.
	on := func(theirs time.Time) time.Time { return now.Add(theirs.Add(-t.offset).Sub(now)) }
	retention := w.o.Sources[t.source].Retention
	t.submitted = earlier(on(submitted), now)
	t.deadline = t.submitted.Add(retention * 9 / 10)
	t.kept = earlier(on(t.d.Sent), now).Add(retention * 19 / 20)

	j, err := job.Decode(t.d.Body)
	if err == nil && j.Payload != "" {
		j, err = w.resolve(t, j)
	}
	if err != nil {
		t.claim.Identity, t.claim.Digest = job.Peek(t.d.Body), job.DigestBody(t.d.Body)
	} else {
		t.job, t.claim.Identity, t.claim.Digest = j, j.Identity(), j.Digest()
	}
	t.named = err == nil || t.claim.ID != ""
	if t.claim.ID == "" { // a renewal carries the ID of the first message
		t.claim.ID = cmp.Or(t.d.Trail.ID, t.d.MessageID)
	}
	t.log = w.log.With("run", t.claim.Run, "id", t.claim.ID)
	if err != nil {
		return err
	}
	if !j.Deadline.IsZero() {
		t.deadline = earlier(t.deadline, on(j.Deadline))
	}
	return nil
}

// resolve reads the whole job behind a pointer, as soon as it fits.
func (w *Worker) resolve(t *task, pointer job.Job) (job.Job, error) {
	if w.o.Payloads == nil {
		return job.Job{}, &job.Failure{Reason: job.Payload, Message: "payload: no payload prefix is configured"}
	}
	if t.d.Receives > w.o.MaxReceives {
		return job.Job{}, tooManyReceives // what it holds may be what kills us
	}
	// Its size is known only once it is read, so the largest is set aside.
	if !w.room.take(w.taking, job.MaxPayload) {
		return job.Job{}, errStopping
	}
	made := time.Now()
	object, err := w.o.Payloads.Get(w.calling, pointer.Payload)
	if _, verdict := errors.AsType[*job.Failure](err); err == nil || !verdict {
		w.payloads.report(made, err) // 403, 5xx, network: S3 counts as away
	}
	w.room.add(int64(len(object)) - job.MaxPayload)
	t.bytes += int64(len(object))
	if err != nil {
		return job.Job{}, err
	}
	return pointer.Resolve(object)
}

const unknownName = "no configured model has that name"

// choose finds the models that may answer the job.
func (w *Worker) choose(t *task) *job.Failure {
	alias, ok := w.o.Resolve(t.job.Model)
	if !ok {
		w.mixes[t.source].note(nil)
		return &job.Failure{Reason: job.UnknownModel, Message: "model: no configured model is called " + t.job.Model, Detail: "model: " + unknownName}
	}
	asked := w.disp.models[alias]
	w.mixes[t.source].note(asked)
	chain := asked.Fallback
	if t.job.Fallback != nil {
		chain = t.job.Fallback
	}
	t.chain = append(t.chain, w.choice(t, asked))
	for i, name := range chain {
		alias, ok := w.o.Resolve(name)
		if !ok {
			field := fmt.Sprintf("fallback[%d]: ", i)
			return &job.Failure{Reason: job.UnknownModel, Message: field + "no configured model is called " + name, Detail: field + unknownName}
		}
		m := w.disp.models[alias]
		if m != asked && (t.job.Kind == job.Converse || m.Family == asked.Family) {
			t.chain = append(t.chain, w.choice(t, m))
		}
	}
	return nil
}

func (w *Worker) choice(t *task, m *model) choice {
	return choice{m, pacing.Size(w.o.Measure(m.routes[0].at, t.job.Kind, t.job.Request))}
}

// unreadable ends a delivery that is no job that could be tried.
func (w *Worker) unreadable(t *task, problem error) ending {
	if errors.Is(problem, errStopping) {
		return back(0)
	}
	f, final := errors.AsType[*job.Failure](problem)
	if field, ok := errors.AsType[*job.FieldError](problem); ok {
		short := job.FieldError{Field: shortened(field.Field), Problem: field.Problem}
		f, final = &job.Failure{Reason: job.Malformed, Message: field.Error(), Detail: short.Error()}, true
	}
	if now := time.Now(); !final && !t.expired(now) {
		t.record.unavailable++
		wait := pacing.Backoff(t.record.unavailable, shortestRelease, slowestFloor, rand.Float64())
		return back(min(wait, t.nextMoment(now)))
	}
	// Answered already, or buried by one that stopped before its copy was sent. A
	// payload that can't be read is not known to be another than what was answered.
	unread := !final || f.Reason == job.Payload
	switch verdict, err := w.look(t); {
	case err != nil:
		return w.giveUp(t)
	case verdict == job.Answered, verdict == job.Contested && unread:
		return w.copyStored(t)
	case !final:
		return w.finish(t, nil, nil, expired)
	}
	return w.bury(t, f)
}

// shortened is a field's name, which may be the sender's and anything, as it fits
// into a log and an attribute of SQS.
func shortened(name string) string {
	const most = 40
	letters := []rune(name)
	if len(letters) > most {
		letters = append(letters[:most], []rune("...")...)
	}
	for i, r := range letters {
		if !unicode.IsPrint(r) {
			letters[i] = '?'
		}
	}
	return string(letters)
}

// look asks whether the job is answered already, for as long as it may be held.
//
// It does so on a goroutine of its own: the SDK calls deep, and a stack that has
// grown for it would be kept through the hold and the invocation, 32 KiB a job.
func (w *Worker) look(t *task) (v job.Verdict, err error) {
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		err = w.insist(t.lease.gone, w.o.Hold, func(ctx context.Context) error {
			made := time.Now()
			ctx, cancel := context.WithTimeout(ctx, checkLimit)
			defer cancel()
			v, err = w.o.Sink.Look(ctx, t.claim)
			if err != nil { // that it succeeds does not prove that a result can be written
				w.sink.report(made, err)
			}
			return err
		})
	}()
	<-looked
	return v, err
}

// giveUp ends a delivery that could not go on: it is lost, or released for as
// long as it has been stuck.
func (w *Worker) giveUp(t *task) ending {
	switch {
	case !t.lease.held():
		return lostIt
	case w.taking.Err() != nil:
		return back(0)
	}
	return back(jitter(floor(t.lease.received, time.Now())))
}

const (
	// insistFirst and insistLongest space the tries of a call that must succeed.
	insistFirst   = 500 * time.Millisecond
	insistLongest = 15 * time.Second
)

// insist repeats a call until it succeeds, finds that there is no room for what
// it sends, or has become pointless, the worker gives up its calls, or the time
// is over.
func (w *Worker) insist(pointless <-chan struct{}, limit time.Duration, call func(context.Context) error) error {
	began := time.Now()
	for n := 0; ; n++ {
		err := call(w.calling)
		if err == nil || errors.Is(err, job.ErrNoRoom) {
			return err
		}
		pause := jitter(pacing.Backoff(n, insistFirst, insistLongest, 1))
		if time.Since(began)+pause > limit {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-pointless:
			timer.Stop()
			return err
		case <-w.calling.Done():
			timer.Stop()
			return err
		}
	}
}

// pause keeps the lease for a while, and says whether it was kept to the end.
func (w *Worker) pause(t *task, d time.Duration) bool {
	w.disp.rejoin(t)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.lease.gone:
	case <-w.taking.Done():
	}
	return false
}

// size is the job's size to a model of its chain.
func (t *task) size(m *model) pacing.Size {
	for _, c := range t.chain {
		if c.model == m {
			return c.size
		}
	}
	return pacing.Size{}
}

// asked is the model that the job asks for.
func (t *task) asked() *model { return t.chain[0].model }

// unstruck is what is left of the chain: one model at least.
func (t *task) unstruck() (left []*model) {
	for _, c := range t.chain {
		if !t.record.struck[c.model] {
			left = append(left, c.model)
		}
	}
	return left
}

// strike takes a model off the chain, unless it is the last.
func (t *task) strike(m *model) bool {
	if len(t.unstruck()) < 2 {
		return false
	}
	t.record.strike(m)
	return true
}

// mayTry says whether the task may be sent on the route: one that was stopped
// wants probes by jobs that it has not refused.
func (t *task) mayTry(r *route, now time.Time) bool {
	return r.Gate.Cause() != pacing.Stopped || !t.record.refusedOn(r, now)
}

// expired says whether the effective deadline has passed.
func (t *task) expired(now time.Time) bool { return now.After(t.deadline) }

// nextMoment is how long until time alone changes what is to be done.
func (t *task) nextMoment(now time.Time) time.Duration {
	next := t.deadline.Sub(now) + time.Millisecond
	if len(t.chain) > 1 {
		late := t.submitted.Add(t.asked().FallbackAfter).Sub(now)
		if late > 0 {
			next = min(next, late)
		}
	}
	return max(0, next)
}

// signal tells the waiting task to look. Caller holds dispatcher.mu.
func (t *task) signal() {
	select {
	case t.turn <- struct{}{}:
	default:
	}
}
