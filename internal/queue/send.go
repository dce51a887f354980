package queue

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/sluicehq/sluice/job"
)

// maxEntries is what SQS takes in one call.
const maxEntries = 10

// Send sends one message, in one call with those that are sent within the
// linger. A body that with its attributes exceeds what the queue takes goes to the payload
// prefix and a pointer to the queue; without a payload prefix the error is
// job.ErrNoRoom, as it is for a body with characters that SQS refuses (a model's
// output can have some; a body that came from SQS has none). A message may have
// been sent although ctx ended first.
func (q *Queue) Send(ctx context.Context, m job.Message) error {
	e, size, err := q.entry(ctx, m)
	if err != nil {
		return fmt.Errorf("send to %s: %w", q.name, err)
	}
	b, place := q.join(e, size)
	select {
	case <-b.sent:
		return b.slots[place]
	case <-ctx.Done():
		return fmt.Errorf("send to %s: %w", q.name, ctx.Err())
	}
}

// entry makes the message an entry of a batch, and says how much SQS counts for
// it.
func (q *Queue) entry(ctx context.Context, m job.Message) (e types.SendMessageBatchRequestEntry, size int64, err error) {
	e.MessageAttributes = make(map[string]types.MessageAttributeValue, 2)
	set := func(name, value string) {
		const kind = "String"
		e.MessageAttributes[name] = types.MessageAttributeValue{DataType: aws.String(kind), StringValue: aws.String(value)}
		size += int64(len(name) + len(kind) + len(value))
	}
	if m.Trail != (job.Trail{}) {
		trail, err := json.Marshal(m.Trail)
		if err != nil {
			return e, 0, err
		}
		set(trailAttribute, string(trail))
	}
	if m.Traceparent != "" {
		set(traceparentAttribute, m.Traceparent)
	}
	body := m.Body
	if size+int64(len(body)) > q.maxBytes.Load() {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		if body, err = q.pointer(ctx, m); err != nil {
			return e, 0, err
		}
	}
	e.MessageBody = aws.String(string(body))
	e.DelaySeconds = seconds(m.Delay)
	if m.Group != "" {
		e.MessageGroupId = &m.Group
	}
	return e, size + int64(len(body)), nil
}

// sending is a batch of messages on their way.
type sending struct {
	entries []types.SendMessageBatchRequestEntry
	size    int64
	slots   []error // of the entries, once it was sent
	sent    chan struct{}
}

// join gives the entry a place in the next batch. All of it may be as large as
// one message.
func (q *Queue) join(e types.SendMessageBatchRequestEntry, size int64) (b *sending, place int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next != nil && q.next.size+size > q.maxBytes.Load() {
		q.depart()
	}
	if b = q.next; b == nil {
		b = &sending{sent: make(chan struct{})}
		q.next = b
		if q.linger > 0 {
			time.AfterFunc(q.linger, func() {
				q.mu.Lock()
				defer q.mu.Unlock()
				if q.next == b {
					q.depart()
				}
			})
		}
	}
	place = len(b.entries)
	e.Id = position(place)
	b.entries, b.size = append(b.entries, e), b.size+size
	if q.linger == 0 || len(b.entries) == maxEntries {
		q.depart()
	}
	return b, place
}

// depart sends the next batch. The caller holds the lock.
func (q *Queue) depart() {
	b := q.next
	q.next = nil
	go func() {
		b.slots = q.sendBatch(b.entries)
		close(b.sent)
	}()
}

func (q *Queue) sendBatch(entries []types.SendMessageBatchRequestEntry) []error {
	// What one of the callers gives up is still wanted by the others.
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	out, err := q.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: &q.url, Entries: entries})
	o := q.outcomes("send to", len(entries))
	if err != nil {
		return o.all(err)
	}
	q.answered(out.ResultMetadata)
	for _, s := range out.Successful {
		o.succeeded(s.Id)
	}
	return o.failed(out.Failed)
}

// pointer puts the body under the payload prefix and returns the body that
// points to it. The key is the content's hash: a job that is renewed twenty
// times has one object, and each renewal makes it young again for the bucket's
// lifecycle.
func (q *Queue) pointer(ctx context.Context, m job.Message) ([]byte, error) {
	if q.payloads == nil {
		return nil, job.ErrNoRoom
	}
	sum := sha256.Sum256(m.Body)
	uri, err := q.payloads.Put(ctx, hex.EncodeToString(sum[:])+".json", m.Body)
	if err != nil {
		return nil, err
	}
	who := job.Peek(m.Body)
	return job.Job{
		ID:      cmp.Or(who.ID, m.Trail.ID),
		Run:     cmp.Or(who.Run, m.Trail.Run),
		Payload: uri,
	}.Encode()
}
