package worker

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sluicehq/sluice/job"
)

const (
	// batchSize is what one SQS batch call takes.
	batchSize = 10
	// linger is how long a delete or a release may wait for a batch to fill. The
	// lease is kept meanwhile, so it costs a duplicate look after a crash and
	// nothing else; without it each settlement is a request of its own.
	linger = 2 * time.Second
	// keeperCalls batches may be under way at once. One would bound the settlements
	// to 10 per round trip; many would be more than the connections kept open.
	keeperCalls = 8
	// maxLease is SQS's 12 hours from the receipt, less a margin: asking for more
	// than what is left is an error, not clamped (aws-facts G).
	maxLease = 12*time.Hour - time.Minute
	// retryKeep is the wait before a failed batch is tried again.
	retryKeep = time.Second
)

// lease is the ownership of one delivery's visibility. It is extended until it
// is settled, once, by release or delete; or it is lost.
type lease struct {
	keeper   *keeper
	message  string        // its ID
	received time.Time     // a moment before SQS's clock of it started
	gone     chan struct{} // closed when the lease is lost, for good: its job starts no more

	// Below: guarded by keeper.mu.
	handle   string
	limit    time.Time // the end of SQS's 12 hours
	deadline time.Time // when SQS will show the message again
	do       operation
	over     bool          // its holder has settled it, and has ended
	delay    time.Duration // of a release
	at       time.Time     // when the operation is due
	in       *list.List    // the agenda that holds it; nil while a call is under way
	elem     *list.Element
}

type operation uint8

const (
	extend operation = iota
	release
	remove
	settled // done, or lost
)

// keeper owns the visibility of every lease of one queue. An extension, a
// release and a delete are the same thing to it: the next operation that is due
// on a lease. At most one is under way on a lease at a time, so a heartbeat can
// never follow a delete. It is the last part of the worker to stop.
type keeper struct {
	queue      Queue
	visibility time.Duration
	log        *slog.Logger
	stats      *stats
	wake       chan struct{} // buffered 1: an agenda changed

	visible, deletes *outage // whether SQS takes the two kinds of calls

	mu     sync.Mutex
	agenda [settled]list.List // by operation, each in order of lease.at
	leases int                // not yet settled
	calls  int                // batches under way
	ending bool               // no lease will be added any more
	failed bool               // the last call failed as a whole
}

func newKeeper(s Source, visibility time.Duration, log *slog.Logger, st *stats) *keeper {
	return &keeper{
		queue: s.Queue, visibility: visibility, log: log.With("queue", s.Name), stats: st, wake: make(chan struct{}, 1),
		visible: &outage{name: "visibility changes in queue " + s.Name, log: log},
		deletes: &outage{name: "deletes from queue " + s.Name, log: log},
	}
}

// add takes the lease of a delivery that was asked for at the time asked, a
// moment before SQS started its clock.
func (k *keeper) add(d job.Delivery, asked time.Time) *lease {
	l := &lease{
		keeper: k, message: d.MessageID, handle: d.Handle, received: asked, limit: asked.Add(maxLease),
		deadline: asked.Add(k.visibility), gone: make(chan struct{}),
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.leases++
	k.schedule(l, extend, asked.Add(k.visibility/2))
	return l
}

// release gives the delivery back, to be visible again after delay.
func (l *lease) release(delay time.Duration) { l.settle(release, delay) }

// delete removes the message: its result is durable.
func (l *lease) delete() { l.settle(remove, 0) }

func (l *lease) settle(do operation, delay time.Duration) {
	k := l.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	l.over = true
	if l.do == settled && do == release {
		return // lost: there is nothing to give back
	}
	if l.do == settled {
		// A lost lease's handle may still delete, and if not, the next receipt
		// finds the result.
		k.leases++
	}
	l.delay = delay
	if l.in == nil && l.do != settled {
		l.do = do // a call is under way; it will see this when it ends
		return
	}
	k.unschedule(l)
	k.schedule(l, do, time.Now().Add(linger))
}

// adopt ends another lease of the same message, and where that is of a newer
// delivery goes on with its handle: SQS may honour only the latest.
func (l *lease) adopt(other *lease) {
	k := l.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	if other.do == settled {
		return // lost already
	}
	k.unschedule(other)
	k.end(other)
	if other.received.Before(l.received) {
		return
	}
	l.handle, l.limit = other.handle, other.limit
	l.deadline = later(l.deadline, other.deadline)
	switch {
	case l.do == settled && !l.over: // lost; but nobody else shall receive a job that has started
		k.leases++
		k.schedule(l, extend, other.at)
	case l.in != nil && l.do == extend:
		k.unschedule(l)
		k.schedule(l, extend, other.at)
	}
}

// held says whether the lease is ours, and was never lost.
func (l *lease) held() bool {
	select {
	case <-l.gone:
		return false
	default:
	}
	l.keeper.mu.Lock()
	defer l.keeper.mu.Unlock()
	return l.do != settled && time.Now().Before(l.deadline)
}

// schedule puts the lease on the agenda of an operation. Caller holds mu.
func (k *keeper) schedule(l *lease, do operation, at time.Time) {
	l.do, l.at, l.in = do, at, &k.agenda[do]
	e := l.in.Back()
	for e != nil && e.Value.(*lease).at.After(at) { // times come in order but for retries
		e = e.Prev()
	}
	if e == nil {
		l.elem = l.in.PushFront(l)
	} else {
		l.elem = l.in.InsertAfter(l, e)
	}
	if l.in.Front() == l.elem || l.in.Len() == batchSize {
		k.nudge()
	}
}

func (k *keeper) unschedule(l *lease) {
	if l.in != nil {
		l.in.Remove(l.elem)
		l.in, l.elem = nil, nil
	}
}

func (k *keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// finish tells the keeper that no lease will be added any more: it settles what
// it has without lingering, and ends.
func (k *keeper) finish() {
	k.mu.Lock()
	k.ending = true
	k.mu.Unlock()
	k.nudge()
}

// run performs what is due until finish was called and every lease is settled,
// or ctx ends.
func (k *keeper) run(ctx context.Context) {
	var calls sync.WaitGroup
	defer calls.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		do, batch, next := k.due(time.Now())
		if batch != nil {
			calls.Go(func() { k.perform(ctx, do, batch) })
			continue
		}
		if next.IsZero() {
			return
		}
		timer.Reset(time.Until(next))
		select {
		case <-timer.C:
		case <-k.wake:
		case <-ctx.Done():
			return
		}
	}
}

// due takes the next batch off the agendas, or says when to look again: never,
// as the zero time, once the keeper is finished.
func (k *keeper) due(now time.Time) (do operation, batch []*lease, next time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ending && k.leases == 0 && k.calls == 0 {
		return do, nil, time.Time{}
	}
	next = now.Add(k.visibility)
	if k.calls >= keeperCalls {
		return do, nil, next // the end of a call wakes us
	}
	for do = range settled {
		a := &k.agenda[do]
		if a.Len() == 0 {
			continue
		}
		at := a.Front().Value.(*lease).at
		full := do != extend && (a.Len() >= batchSize || k.ending) && !k.failed
		if !full && at.After(now) {
			next = earlier(next, at)
			continue
		}
		// A batch has room for what will be due soon as well.
		soon := now.Add(k.visibility / 8)
		for e := a.Front(); e != nil && len(batch) < batchSize; e = a.Front() {
			l := e.Value.(*lease)
			if do == extend && l.at.After(soon) {
				break
			}
			k.unschedule(l)
			if do == extend && l.left(now) < k.visibility/2 {
				k.lose(l, "SQS's 12 hours from the receipt are over", nil)
				continue
			}
			batch = append(batch, l)
		}
		if len(batch) > 0 {
			k.calls++
			return do, batch, now
		}
	}
	return do, nil, next
}

// left is how much longer SQS lets anybody keep this receipt invisible.
func (l *lease) left(now time.Time) time.Duration { return l.limit.Sub(now) }

// perform does one operation on each lease of a batch, all of one kind, and
// puts on the agenda what follows.
func (k *keeper) perform(ctx context.Context, do operation, batch []*lease) {
	asked := time.Now()
	k.mu.Lock()
	handles := make([]string, len(batch))
	changes := make([]job.Visibility, len(batch))
	for i, l := range batch {
		handles[i] = l.handle
		until := k.visibility
		if do == release {
			until = l.delay
		}
		changes[i] = job.Visibility{Handle: l.handle, For: max(0, min(until, l.left(asked)))}
	}
	k.mu.Unlock()

	call, cancel := context.WithTimeout(ctx, k.visibility/2)
	defer cancel()
	var errs []error
	ability := k.visible
	if do == remove {
		ability = k.deletes
		errs = k.queue.Delete(call, handles)
	} else {
		errs = k.queue.SetVisibility(call, changes)
	}

	now := time.Now()
	refusal := errs[0] // of the whole call
	k.mu.Lock()
	k.calls--
	for i, l := range batch {
		if errs[i] == nil || errors.Is(errs[i], job.ErrGone) {
			refusal = nil
		}
		k.after(l, do, changes[i], errs[i], asked, now)
	}
	k.failed = refusal != nil
	k.nudge()
	k.mu.Unlock()
	ability.report(asked, refusal)
}

// after decides what follows on a lease when an operation on it has ended.
func (k *keeper) after(l *lease, did operation, change job.Visibility, err error, asked, now time.Time) {
	wish := l.do // differs from did when the lease was settled during the call
	switch {
	case wish == settled: // given up for another lease of its message
	case errors.Is(err, job.ErrGone) && change.Handle != l.handle:
		k.schedule(l, wish, now) // a newer handle was adopted during the call
	case err == nil && did == extend:
		l.deadline = asked.Add(change.For)
		if wish != extend {
			k.schedule(l, wish, now)
		} else {
			k.schedule(l, extend, asked.Add(change.For/2))
		}
	case err == nil, errors.Is(err, job.ErrGone) && did != extend:
		if did == release {
			k.stats.released.Add(1)
		}
		k.end(l)
	case errors.Is(err, job.ErrGone) && wish == extend:
		k.lose(l, "somebody else received or deleted the message", err)
	case errors.Is(err, job.ErrGone):
		k.schedule(l, wish, now)
	case now.After(l.deadline) && wish == extend:
		k.lose(l, "it could not be extended in time", err)
	case now.After(l.deadline):
		k.end(l) // a delete or release that never went through: the message comes again
	default:
		k.schedule(l, wish, earlier(now.Add(retryKeep), l.deadline.Add(time.Millisecond)))
	}
}

func (k *keeper) end(l *lease) {
	l.do = settled
	k.leases--
}

func (k *keeper) lose(l *lease, why string, err error) {
	k.end(l)
	k.stats.lost.Add(1)
	go k.log.Warn("lease lost", "message_id", l.message, "why", why, "error", err) // a log may block, and mu is held
	select {
	case <-l.gone: // for the second time
	default:
		close(l.gone)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
