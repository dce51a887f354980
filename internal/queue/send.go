package queue

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/sluicehq/sluice/job"
)

// Send sends one message. A body that with its attributes exceeds what the
// queue takes goes to the payload prefix and a pointer to the queue; without a
// payload prefix the error is job.ErrNoRoom, as it is for a body with characters
// that SQS refuses (a model's output can have some; a body that came from SQS
// has none).
func (q *Queue) Send(ctx context.Context, m job.Message) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()

	attributes := make(map[string]types.MessageAttributeValue, 2)
	room := q.maxBytes.Load()
	set := func(name, value string) {
		const kind = "String"
		attributes[name] = types.MessageAttributeValue{DataType: aws.String(kind), StringValue: aws.String(value)}
		room -= int64(len(name) + len(kind) + len(value))
	}
	if m.Trail != (job.Trail{}) {
		trail, err := json.Marshal(m.Trail)
		if err != nil {
			return fmt.Errorf("send to %s: %w", q.name, err)
		}
		set(trailAttribute, string(trail))
	}
	if m.Traceparent != "" {
		set(traceparentAttribute, m.Traceparent)
	}

	body := m.Body
	if int64(len(body)) > room {
		var err error
		if body, err = q.pointer(ctx, m); err != nil {
			return fmt.Errorf("send to %s: %w", q.name, err)
		}
	}

	in := &sqs.SendMessageInput{
		QueueUrl:          &q.url,
		MessageBody:       aws.String(string(body)),
		MessageAttributes: attributes,
		DelaySeconds:      seconds(m.Delay),
	}
	if m.Group != "" {
		in.MessageGroupId = &m.Group
	}
	out, err := q.client.SendMessage(ctx, in)
	if _, ok := errors.AsType[*types.InvalidMessageContents](err); ok {
		return fmt.Errorf("send to %s: %w: %w", q.name, job.ErrNoRoom, err)
	}
	if err != nil {
		return q.wrap("send to", err)
	}
	q.answered(out.ResultMetadata)
	return nil
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
