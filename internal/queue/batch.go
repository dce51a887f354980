package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/sluicehq/sluice/job"
)

// SetVisibility changes the visibility of up to ten deliveries. Its answer has
// a slot for each, in order: nil, job.ErrGone, or an error worth another try.
func (q *Queue) SetVisibility(ctx context.Context, changes []job.Visibility) []error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	entries := make([]types.ChangeMessageVisibilityBatchRequestEntry, len(changes))
	for i, c := range changes {
		entries[i] = types.ChangeMessageVisibilityBatchRequestEntry{
			Id:                position(i),
			ReceiptHandle:     aws.String(c.Handle),
			VisibilityTimeout: seconds(c.For),
		}
	}
	out, err := q.client.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{
		QueueUrl: &q.url, Entries: entries,
	})
	o := q.outcomes("change visibility in", len(changes))
	if err != nil {
		return o.all(err)
	}
	q.answered(out.ResultMetadata)
	for _, s := range out.Successful {
		o.succeeded(s.Id)
	}
	return o.failed(out.Failed)
}

// Delete deletes up to ten deliveries; its answer is that of SetVisibility.
// Deleting again is harmless. A nil for an older handle than the message's last
// proves nothing: SQS says yes to it and deletes nothing.
func (q *Queue) Delete(ctx context.Context, handles []string) []error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	entries := make([]types.DeleteMessageBatchRequestEntry, len(handles))
	for i, h := range handles {
		entries[i] = types.DeleteMessageBatchRequestEntry{Id: position(i), ReceiptHandle: aws.String(h)}
	}
	out, err := q.client.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{
		QueueUrl: &q.url, Entries: entries,
	})
	o := q.outcomes("delete from", len(handles))
	if err != nil {
		return o.all(err)
	}
	q.answered(out.ResultMetadata)
	for _, s := range out.Successful {
		o.succeeded(s.Id)
	}
	return o.failed(out.Failed)
}

// position names an entry by its place: the same message can stand twice in a
// batch, and two entries of one id fail the whole of it.
func position(i int) *string { return aws.String(strconv.Itoa(i)) }

// errUnanswered is an entry that SQS names neither as done nor as failed.
var errUnanswered = errors.New("no outcome for this entry")

// outcomes sorts SQS's answer to a batch into the slots of its entries.
type outcomes struct {
	q     *Queue
	op    string
	slots []error
}

func (q *Queue) outcomes(op string, n int) outcomes {
	o := outcomes{q: q, op: op, slots: make([]error, n)}
	for i := range o.slots {
		o.slots[i] = fmt.Errorf("%s %s: %w", op, q.name, errUnanswered)
	}
	return o
}

// all is the answer where the request as a whole failed.
func (o outcomes) all(err error) []error {
	err = o.q.wrap(o.op, err)
	for i := range o.slots {
		o.slots[i] = err
	}
	return o.slots
}

func (o outcomes) succeeded(id *string) { o.set(id, nil) }

func (o outcomes) failed(entries []types.BatchResultErrorEntry) []error {
	for _, e := range entries {
		err := fmt.Errorf("%s: %s", aws.ToString(e.Code), aws.ToString(e.Message))
		switch code := aws.ToString(e.Code); {
		case gone(code):
			err = fmt.Errorf("%w: %w", job.ErrGone, err)
		case shortCode(code) == "InvalidMessageContents":
			err = fmt.Errorf("%w: %w", job.ErrNoRoom, err)
		}
		o.set(e.Id, fmt.Errorf("%s %s: %w", o.op, o.q.name, err))
	}
	return o.slots
}

func (o outcomes) set(id *string, err error) {
	if i, e := strconv.Atoi(aws.ToString(id)); e == nil && 0 <= i && i < len(o.slots) {
		o.slots[i] = err
	}
}
