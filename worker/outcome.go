package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/sluicehq/sluice/job"
	"github.com/sluicehq/sluice/pacing"
)

// What came back, and what follows.

const (
	// backoffFirst and backoffLongest bound how long a job waits after an answer
	// that says "not now"; the ledger and the gate pace the route meanwhile.
	backoffFirst   = time.Second
	backoffLongest = time.Minute
	// refusedFor is how long a job stays away whose credentials or access were
	// refused: the interval of the probes that other jobs make.
	refusedFor = time.Minute
	// maxOversize throttles of a job above the whole quota, alone on its route,
	// prove that it can never be admitted.
	maxOversize = 3
	// renewFrom receives on, a release is a renewal, so that releases never add
	// up to a burial by SLUICE_MAX_RECEIVES or by the queue's redrive policy.
	renewFrom = 20
	// renewOwn releases just before that must have been this process's own: a job that
	// kills processes is received as often, and must not be made young; the last
	// receive but one is renewed by anybody. More, and more jobs come there whose
	// releases many drainers share, or one that restarts.
	renewOwn = 2
	// longestDelay is SQS's, of a message sent.
	longestDelay = 15 * time.Minute
	// maxCopiesWaiting copies that can't be sent, nothing new is invoked: each
	// holds an answer in memory.
	maxCopiesWaiting = 100
)

var (
	conflict        = &job.Failure{Reason: job.Conflict, Message: "another job's success stands under this run and id"}
	tooManyReceives = &job.Failure{Reason: job.Receives, Message: "received too often without an end"}
	expired         = &job.Failure{Reason: job.DeadlinePast, Message: "the deadline passed before the job could start"}
)

// invoke sends the request. Its error means that the worker is stopping.
func (w *Worker) invoke(t *task, g *grant) (*job.Answer, *job.Failure, error) {
	ctx, cancel := context.WithTimeout(w.invoking, g.model.Timeout)
	defer cancel()
	t.started = time.Now()
	t.attempts++
	answer, err := w.o.Model.Invoke(ctx, g.route.at, t.job.Kind, t.job.Request)
	if err == nil {
		w.room.add(int64(len(answer.Output)))
		t.bytes += int64(len(answer.Output))
		answer.Usage.QuotaTokens = w.disp.settle(t, g, pacing.Answered, answer.Usage, answer.Metered)
		return &answer, nil, nil
	}
	f, ok := errors.AsType[*job.Failure](err)
	if !ok {
		w.stats.cancelled.Add(1)
		w.disp.settle(t, g, pacing.Cancelled, job.Usage{}, false)
		return nil, nil, err
	}
	return nil, f, nil
}

// treat settles a failed invocation and says how long the job should wait for
// its next, or that this failure is its end.
func (w *Worker) treat(t *task, g *grant, f *job.Failure) (next time.Duration, over bool) {
	over = w.disp.fail(t, g, f)
	rec := t.record
	backoff := func(n *int) time.Duration {
		*n++
		return max(f.RetryAfter, pacing.Backoff(*n-1, backoffFirst, backoffLongest, rand.Float64()))
	}
	switch f.Reason {
	case job.Throttled:
		t.throttles++
		if whole := g.whole(); whole > 0 && g.ticket.Alone {
			if rec.oversize++; rec.oversize >= maxOversize {
				f.Reason = job.Oversize
				f.Message = fmt.Sprintf("the request reserves %d tokens, the quota is %.0f a minute; throttled %d times with nothing else in flight: %s",
					g.ticket.Charge.Reserve, whole, rec.oversize, f.Message)
				return 0, true
			}
		}
		return backoff(&rec.throttles), false
	case job.Exhausted:
		t.throttles++
		return 0, false
	case job.Unauthorized:
		return jitter(refusedFor), over
	case job.Rejected:
		return 0, g.model == t.asked() || !t.strike(g.model)
	default:
		if over {
			return 0, !t.strike(g.model)
		}
		return backoff(&rec.unavailable), false
	}
}

func outcomeOf(r job.Reason) pacing.Outcome {
	switch r {
	case job.Throttled:
		return pacing.Refused
	case job.Exhausted:
		return pacing.Exhausted
	case job.Unauthorized:
		return pacing.Unauthorized
	case job.Rejected:
		return pacing.Rejected
	}
	return pacing.Unavailable
}

// finish makes the job's result durable, then deletes the delivery.
func (w *Worker) finish(t *task, g *grant, a *job.Answer, f *job.Failure) ending {
	w.disp.leave(t)
	r := t.result(g, a, f)
	verdict, err := w.save(t, r)
	switch {
	case err != nil:
		return w.giveUp(t)
	case verdict == job.Contested:
		return w.bury(t, conflict)
	}
	paid := r.Status == job.Succeeded
	if paid && verdict == job.Answered {
		w.stats.paidTwice.Add(1)
	}
	w.disp.ended(t, r)
	if !paid {
		t.log.Info("job "+string(r.Status), "model", t.job.Model, "reason", f.Reason, "code", f.Code, "request_id", f.RequestID)
	}
	if verdict == job.Answered {
		return w.copyStored(t)
	}
	return w.copy(t, r)
}

// save stores the result, however long it takes: it was paid for.
func (w *Worker) save(t *task, r job.Result) (v job.Verdict, err error) {
	err = w.insist(nil, maxLease, func(ctx context.Context) error {
		made := time.Now()
		v, err = w.o.Sink.Save(ctx, t.claim, r)
		w.sink.report(made, err)
		if err != nil {
			w.stats.resultErrors.Add(1)
		}
		return err
	})
	return v, err
}

// result is what the job ended with.
func (t *task) result(g *grant, a *job.Answer, f *job.Failure) job.Result {
	r := job.Result{
		ID: t.claim.ID, Run: t.claim.Run, Status: job.Failed, Model: t.job.Model,
		Attempts: t.attempts, Throttles: t.throttles, Receives: t.d.Receives,
		EnqueuedAt: t.claim.Submitted, FinishedAt: time.Now().Add(t.offset).UTC(),
		Traceparent: t.d.Traceparent, Group: t.d.Group, Metadata: t.job.Metadata,
	}
	if !t.started.IsZero() {
		r.StartedAt = t.started.Add(t.offset).UTC()
	}
	if g != nil {
		r.Model, r.Route = g.model.Alias, &g.route.at
	}
	switch {
	case a != nil:
		r.Status, r.Output, r.Usage = job.Succeeded, a.Output, &a.Usage
	case f.Reason == job.DeadlinePast:
		r.Status = job.Expired
		fallthrough
	default:
		r.Error = &job.Error{Reason: f.Reason, Code: f.Code, Message: f.Message, RequestID: f.RequestID}
	}
	return r
}

// bury moves the delivery to the dead-letter queue with the reason on it, tells
// whoever waits, and deletes it: a crash can leave a second copy, never none.
func (w *Worker) bury(t *task, f *job.Failure) ending {
	w.disp.leave(t)
	m := t.again()
	m.Trail.Reason, m.Trail.Code, m.Trail.Detail, m.Trail.BuriedAt = f.Reason, f.Code, f.Detail, time.Now().Add(t.offset).UTC()
	made := time.Now()
	err := w.o.Dead.Send(w.calling, m)
	if errors.Is(err, job.ErrNoRoom) {
		m.Trail = job.Trail{}
		err = w.o.Dead.Send(w.calling, m)
	}
	w.dead.report(made, err)
	if err != nil {
		t.record.unavailable++
		return back(pacing.Backoff(t.record.unavailable, shortestRelease, slowestFloor, 1))
	}
	w.stats.bury(f.Reason)
	t.log.Warn("job buried", "reason", f.Reason, "code", f.Code, "detail", f.Detail, "receives", t.d.Receives)
	r := t.result(nil, nil, f)
	switch {
	case f.Reason == job.Conflict:
		return w.copy(t, r)
	case !t.named:
		return finished
	}
	verdict, err := w.save(t, r)
	switch {
	case err != nil:
		return w.giveUp(t)
	case verdict == job.Answered:
		return w.copyStored(t)
	case verdict == job.Contested:
		return finished // whoever waits has an answer, and was told of it
	}
	return w.copy(t, r)
}

// again is the message that carries the job on.
func (t *task) again() job.Message {
	return job.Message{
		Body: t.d.Body, Group: t.d.Group, Traceparent: t.d.Traceparent,
		Trail: job.Trail{
			ID: t.claim.ID, Run: t.claim.Run, Submitted: t.claim.Submitted,
			Source: t.lease.keeper.queue.URL(), Attempts: t.record.attempts,
		},
	}
}

// renew turns the release of a delivery that was received often into a fresh
// message, unless it can't.
func (w *Worker) renew(t *task, delay time.Duration) ending {
	if t.d.Receives < renewFrom-renewOwn {
		return back(delay)
	}
	t.record.released++
	known := t.record.released > renewOwn || t.d.Receives >= w.o.MaxReceives-1
	if t.d.Receives < renewFrom || !known || w.taking.Err() != nil || !t.lease.held() {
		return back(delay)
	}
	m := t.again()
	m.Delay = min(delay, longestDelay).Round(time.Second)
	if err := t.lease.keeper.queue.Send(w.calling, m); err != nil {
		if !errors.Is(err, job.ErrNoRoom) {
			t.log.Log(w.calling, slog.LevelWarn, "renewal not sent", "error", err)
		}
		return back(delay)
	}
	w.stats.renewed.Add(1)
	return ending{did: renewed}
}

// copy sends the copy of a result that was just made.
func (w *Worker) copy(t *task, r job.Result) ending {
	return w.copied(t, func(ctx context.Context) error { return w.o.Copier.Copy(ctx, r) })
}

// copyStored sends the result that stands again: a crash between the object and
// its copy loses none.
func (w *Worker) copyStored(t *task) ending {
	w.disp.leave(t)
	return w.copied(t, func(ctx context.Context) error { return w.o.Copier.CopyStored(ctx, t.claim.Identity) })
}

// copied keeps the delivery until its copy is sent, or SQS is about to drop it.
// A copy that is too long even in its shortest form never will be.
func (w *Worker) copied(t *task, send func(context.Context) error) ending {
	if w.o.Copier == nil {
		return finished
	}
	waiting := false
	err := w.insist(t.lease.gone, max(0, time.Until(t.kept)), func(ctx context.Context) error {
		made := time.Now()
		err := send(ctx)
		if errors.Is(err, job.ErrNoRoom) {
			return err
		}
		w.copies.report(made, err)
		if err != nil {
			w.stats.resultErrors.Add(1)
		}
		if err != nil && !waiting {
			waiting = true
			w.stats.copiesWaiting.Add(1)
			w.suspension()
		}
		return err
	})
	if waiting {
		w.stats.copiesWaiting.Add(-1)
		w.suspension()
	}
	switch {
	case err == nil:
		return finished
	case !errors.Is(err, job.ErrNoRoom) && (!t.lease.held() || w.calling.Err() != nil):
		return w.giveUp(t)
	}
	w.stats.copiesLost.Add(1)
	t.log.Error("copy of the result lost", "error", err)
	return finished
}
