package localaws

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sqsServer is the SQS of one Server.
type sqsServer struct {
	endpoint func() string

	mu     sync.Mutex // guards all that follows, and the queues
	queues map[string]*queue
	serial uint32
	tasks  []moveTask
}

func newSQS(endpoint func() string) *sqsServer {
	return &sqsServer{endpoint: endpoint, queues: make(map[string]*queue)}
}

func (s *sqsServer) url(name string) string { return s.endpoint() + "/" + account + "/" + name }

func queueARN(name string) string { return "arn:aws:sqs:" + region + ":" + account + ":" + name }

// nameIn returns the queue's name in a URL or an ARN: which host a URL names
// does not matter, as it does not matter to AWS.
func nameIn(reference string) string {
	return reference[strings.LastIndexAny(reference, "/:")+1:]
}

// lookup returns the queue with its state brought to the present. The caller
// holds mu.
func (s *sqsServer) lookup(reference string, now time.Time) (*queue, error) {
	q, ok := s.queues[nameIn(reference)]
	if !ok {
		return nil, errNoQueue
	}
	q.advance(now)
	return q, nil
}

func (s *sqsServer) exists(reference string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.queues[nameIn(reference)]; !ok {
		return errNoQueue
	}
	return nil
}

// create makes a queue, or finds the one of that name and the same attributes.
func (s *sqsServer) create(name string, attributes map[string]string) (string, error) {
	if err := checkQueueName(name, attributes["FifoQueue"] == "true"); err != nil {
		return "", err
	}
	redrive, err := settable(attributes)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if q, ok := s.queues[name]; ok {
		for key, value := range attributes {
			if q.attributes[key] != value {
				return "", errQueueExists
			}
		}
		return s.url(name), nil
	}
	all := map[string]string{"SqsManagedSseEnabled": "true"}
	for name, limit := range numeric {
		all[name] = strconv.Itoa(limit.preset)
	}
	maps.Copy(all, attributes)
	s.serial++
	q := newQueue(s.serial, name, all, time.Now())
	q.redrive = redrive
	s.queues[name] = q
	return s.url(name), nil
}

// send puts a message on a queue. The content has been checked but for the
// queue's own limit.
func (s *sqsServer) send(url string, c content, delay *int) (uuid, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	q, err := s.lookup(url, now)
	if err != nil {
		return uuid{}, err
	}
	if q.isFIFO() {
		return uuid{}, errFIFO
	}
	if limit := q.number("MaximumMessageSize"); c.size() > limit {
		return uuid{}, invalidParameter("MessageBody", "Message must be shorter than "+strconv.Itoa(limit)+" bytes.")
	}
	wait := q.seconds("DelaySeconds")
	if delay != nil {
		wait = time.Duration(*delay) * time.Second
	}
	m := &message{content: c, id: newUUID(), sent: now}
	q.add(m, wait, now)
	s.arm(q, now)
	return m.id, nil
}

// received is what one receive tells of a message.
type received struct {
	content
	id            uuid
	handle        handle
	sent          time.Time
	firstReceived time.Time
	receives      int
	source        string
}

// receive waits up to the given time for messages. A receive whose context
// ends takes none.
func (s *sqsServer) receive(ctx context.Context, url string, most int, wait, visibility *int) ([]received, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	q, err := s.lookup(url, now)
	if err != nil {
		return nil, err
	}
	if q.isFIFO() {
		return nil, errFIFO
	}
	patience, hiddenFor := q.seconds("ReceiveMessageWaitTimeSeconds"), q.seconds("VisibilityTimeout")
	if wait != nil {
		patience = time.Duration(*wait) * time.Second
	}
	if visibility != nil {
		hiddenFor = time.Duration(*visibility) * time.Second
	}
	end := now.Add(patience)
	for {
		if err := ctx.Err(); err != nil {
			s.arm(q, now) // advance has woken another poll in this one's place
			return nil, err
		}
		if q.deleted {
			return nil, errNoQueue
		}
		got := s.take(q, most, hiddenFor, now)
		if len(got) == 0 && patience == 0 && q.inFlight >= maxInFlight {
			return nil, errOverLimit
		}
		if len(got) > 0 || !now.Before(end) {
			s.arm(q, now)
			return got, nil
		}
		w := &waiter{max: most, woken: make(chan struct{})}
		q.waiters = append(q.waiters, w)
		s.arm(q, now)
		s.mu.Unlock()
		sleepUntil(ctx, end, w.woken)
		s.mu.Lock()
		q.leave(w)
		now = time.Now()
		q.advance(now)
	}
}

// sleepUntil returns at the given time, or when woken is closed or ctx ends.
func sleepUntil(ctx context.Context, end time.Time, woken <-chan struct{}) {
	timer := time.NewTimer(time.Until(end))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-woken:
	case <-ctx.Done():
	}
}

// take receives what is ready. A message that was received as often as the
// redrive policy allows moves to the dead-letter queue in its place.
func (s *sqsServer) take(q *queue, most int, visibility time.Duration, now time.Time) []received {
	var got []received
	for len(got) < most && q.inFlight < maxInFlight {
		m := q.ready.first()
		if m == nil {
			break
		}
		if q.redrive.maxReceives > 0 && m.receives >= q.redrive.maxReceives {
			if dead, ok := s.queues[nameIn(q.redrive.target)]; ok {
				q.drop(m)
				m.source = queueARN(q.name)
				dead.add(m, 0, now)
				s.arm(dead, now)
				continue
			}
		}
		m.receives++
		m.receipt++
		m.received = now
		if m.firstReceived.IsZero() {
			m.firstReceived = now
		}
		q.hide(m, now.Add(visibility))
		got = append(got, received{
			content: m.content, id: m.id, sent: m.sent, firstReceived: m.firstReceived, receives: m.receives, source: m.source,
			handle: handle{queue: q.serial, message: m.id, receipt: m.receipt},
		})
	}
	return got
}

// arm sets the queue's timer to the moment when a hidden message may be one
// that a long poll waits for. Without a long poll nobody needs to know.
func (s *sqsServer) arm(q *queue, now time.Time) {
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
	m := q.hidden.first()
	if len(q.waiters) == 0 || m == nil {
		return
	}
	q.timer = time.AfterFunc(m.visibleAt.Sub(now), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		now := time.Now()
		q.advance(now)
		s.arm(q, now)
	})
}

// setVisibility extends or ends the lease that a receipt handle stands for.
func (s *sqsServer) setVisibility(url, receipt string, visibility int) error {
	if visibility < 0 || visibility > int(maxVisibility/time.Second) {
		return invalidParameter("VisibilityTimeout", "Must be >= 0 and <= 43200, if provided.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	q, m, h, err := s.find(url, receipt, now)
	switch {
	case err != nil:
		return err
	case m == nil:
		return errGone
	case !m.inFlight || h.receipt != m.receipt:
		return errNotInFlight
	}
	until := now.Add(time.Duration(visibility) * time.Second)
	if until.After(m.received.Add(maxVisibility)) {
		return errBeyond12Hours
	}
	q.hide(m, until)
	q.advance(now)
	s.arm(q, now)
	return nil
}

// remove deletes a message. With an old handle it succeeds and deletes nothing,
// as it does on AWS.
func (s *sqsServer) remove(url, receipt string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, m, h, err := s.find(url, receipt, time.Now())
	if err == nil && m != nil && h.receipt == m.receipt {
		q.drop(m)
	}
	return err
}

// find returns the queue and the message of a handle; the message is nil when
// it is no longer there. The caller holds mu.
func (s *sqsServer) find(url, receipt string, now time.Time) (*queue, *message, handle, error) {
	q, err := s.lookup(url, now)
	if err != nil {
		return nil, nil, handle{}, err
	}
	h, ok := parseHandle(receipt)
	if !ok || h.queue != q.serial {
		return nil, nil, handle{}, errHandle
	}
	return q, q.messages[h.message], h, nil
}

// purge drops every message.
func (s *sqsServer) purge(url string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.lookup(url, time.Now())
	if err != nil {
		return err
	}
	for _, m := range q.messages {
		q.drop(m)
	}
	return nil
}

// destroy deletes a queue; its long polls end with an error.
func (s *sqsServer) destroy(url string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	q, err := s.lookup(url, now)
	if err != nil {
		return err
	}
	q.deleted = true
	delete(s.queues, q.name)
	q.wake()
	s.arm(q, now)
	return nil
}

// moveTask is a redrive out of a dead-letter queue. It is over as soon as it is
// started: nobody here waits for 500 messages a second.
type moveTask struct {
	handle, source, destination string
	moved                       int
	failure                     string
	started                     time.Time
}

// move takes what is visible on a dead-letter queue to the destination, or each
// message to where it came from. As on AWS, what arrives is a new message.
func (s *sqsServer) move(source, destination string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	from, ok := s.queues[nameIn(source)]
	if !ok || !s.isDeadLetterQueue(source) {
		return "", errNoTask
	}
	if _, ok := s.queues[nameIn(destination)]; destination != "" && !ok {
		return "", errNoTask
	}
	from.advance(now)
	task := moveTask{handle: newUUID().String(), source: source, destination: destination, started: now}
	for _, m := range slices.SortedFunc(slices.Values(from.ready.heap), from.ready.compare) {
		arn := destination
		if arn == "" {
			arn = m.source
		}
		to, ok := s.queues[nameIn(arn)]
		if !ok {
			task.failure = "CouldNotDetermineMessageSource"
			continue
		}
		from.drop(m)
		to.add(&message{content: m.content, id: newUUID(), sent: now}, 0, now)
		s.arm(to, now)
		task.moved++
	}
	s.tasks = append(s.tasks, task)
	return task.handle, nil
}

func (s *sqsServer) isDeadLetterQueue(arn string) bool {
	for _, q := range s.queues {
		if q.redrive.target == arn {
			return true
		}
	}
	return false
}
