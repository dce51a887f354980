package localaws

import (
	"slices"
	"strconv"
	"time"
)

// Limits of SQS (aws-facts G).
const (
	maxMessageBytes = 1 << 20
	maxInFlight     = 120_000
	maxVisibility   = 12 * time.Hour // from the receive, however often it is extended
	// agedReceives is the receive count from which a message goes to the back of
	// the queue, where the redrive policy allows more receives than that.
	agedReceives = 3
)

// queue is the state of one queue, guarded by sqsServer.mu. A message is either
// ready (visible) or hidden (delayed, or in flight).
type queue struct {
	serial     uint32
	name       string
	attributes map[string]string // every settable one that has a value
	redrive    redrivePolicy
	created    time.Time
	modified   time.Time
	deleted    bool

	messages map[uuid]*message
	ready    index
	hidden   index
	aged     index
	inFlight int
	lastRank uint64

	waiters []*waiter   // long polls, the longest waiting first
	timer   *time.Timer // set while there are waiters and hidden messages
}

// waiter is a long poll that waits for a message.
type waiter struct {
	max   int
	woken chan struct{} // closed when it should look again
}

func newQueue(serial uint32, name string, attributes map[string]string, now time.Time) *queue {
	return &queue{
		serial: serial, name: name, created: now, modified: now,
		attributes: attributes,
		messages:   make(map[uuid]*message),
		ready:      newIndex(byRank),
		hidden:     newIndex(byVisibility),
		aged:       newIndex(byAge),
	}
}

// number returns a numeric attribute, which settable has checked.
func (q *queue) number(name string) int {
	n, err := strconv.Atoi(q.attributes[name])
	if err != nil {
		panic("localaws: attribute " + name + " of " + q.name + " is no number")
	}
	return n
}

func (q *queue) seconds(name string) time.Duration {
	return time.Duration(q.number(name)) * time.Second
}

func (q *queue) isFIFO() bool { return q.attributes["FifoQueue"] == "true" }

// add puts a new message on the queue.
func (q *queue) add(m *message, delay time.Duration, now time.Time) {
	q.lastRank++
	m.rank = q.lastRank
	q.messages[m.id] = m
	q.aged.add(m)
	m.visibleAt = now.Add(delay)
	q.hidden.add(m)
	q.advance(now)
}

// drop takes a message off the queue.
func (q *queue) drop(m *message) {
	delete(q.messages, m.id)
	q.aged.remove(m)
	q.takeOut(m)
}

// takeOut removes a message from ready or hidden, whichever it is in: its place
// in the other one is where it, or nothing, used to be.
func (q *queue) takeOut(m *message) {
	if at := m.places[byRank]; at < len(q.ready.heap) && q.ready.heap[at] == m {
		q.ready.remove(m)
		return
	}
	q.hidden.remove(m)
	if m.inFlight {
		m.inFlight = false
		q.inFlight--
	}
}

// hide puts a message in flight until the given time.
func (q *queue) hide(m *message, until time.Time) {
	q.takeOut(m)
	m.visibleAt = until
	m.inFlight = true
	q.inFlight++
	q.hidden.add(m)
}

// advance brings the queue to the present: what retention ends is dropped, what
// is due becomes visible, and long polls that can be served are woken.
func (q *queue) advance(now time.Time) {
	retention := q.seconds("MessageRetentionPeriod")
	for m := q.aged.first(); m != nil && !now.Before(m.sent.Add(retention)); m = q.aged.first() {
		q.drop(m)
	}
	for m := q.hidden.first(); m != nil && !now.Before(m.visibleAt); m = q.hidden.first() {
		q.takeOut(m)
		if m.receives >= agedReceives && q.redrive.maxReceives > agedReceives {
			q.lastRank++
			m.rank = q.lastRank
		}
		q.ready.add(m)
	}
	q.wake()
}

// wake wakes as many long polls as there are messages for.
func (q *queue) wake() {
	for n := q.ready.Len(); len(q.waiters) > 0 && (n > 0 || q.deleted); {
		w := q.waiters[0]
		q.waiters = q.waiters[1:]
		close(w.woken)
		n -= w.max
	}
}

// leave ends a long poll that may not have been woken.
func (q *queue) leave(w *waiter) {
	if i := slices.Index(q.waiters, w); i >= 0 {
		q.waiters = slices.Delete(q.waiters, i, i+1)
	}
}
