package queue

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/sluicehq/sluice/job"
)

// The message attributes that Sluice reads and writes: two of SQS's ten, so
// that there is room for those of tracing agents.
const (
	trailAttribute       = "sluice"
	traceparentAttribute = "traceparent"
)

// minWait is the shortest long poll. A wait of 0 would not reach SQS, for the
// SDK leaves a zero out and the queue's own default (up to 20 s) then holds; and
// it would ask some of SQS's servers only.
const minWait = time.Second

// Receive waits up to wait for messages and returns at most limit (1 to 10) of
// them, invisible to others for visibility from its call on. A message whose
// body was damaged on the way is left out and comes again.
//
// Cancelling ctx can hide messages that SQS had sent already until their
// visibility ends: whoever stops lets the poll finish.
func (q *Queue) Receive(ctx context.Context, limit int, wait, visibility time.Duration) ([]job.Delivery, error) {
	wait = max(wait, minWait)
	ctx, cancel := context.WithTimeout(ctx, wait+callTimeout)
	defer cancel()
	out, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl:            &q.url,
		MaxNumberOfMessages: int32(limit),
		WaitTimeSeconds:     seconds(wait),
		VisibilityTimeout:   seconds(visibility),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{
			types.MessageSystemAttributeNameApproximateReceiveCount,
			types.MessageSystemAttributeNameSentTimestamp,
			types.MessageSystemAttributeNameMessageGroupId,
		},
		MessageAttributeNames: []string{trailAttribute, traceparentAttribute},
	}, func(o *sqs.Options) {
		// The SDK fails the whole receive for one bad body, which hides nine good
		// messages until their visibility ends: intact looks at each.
		o.DisableMessageChecksumValidation = true
	})
	if err != nil {
		return nil, q.wrap("receive from", err)
	}
	q.answered(out.ResultMetadata)

	deliveries := make([]job.Delivery, 0, len(out.Messages))
	for _, m := range out.Messages {
		if !intact(m) {
			q.log.Warn("message damaged on the way, left to come again",
				slog.String("queue", q.name), slog.String("message_id", aws.ToString(m.MessageId)))
			continue
		}
		deliveries = append(deliveries, q.delivery(m))
	}
	return deliveries, nil
}

// intact compares a body with the MD5 that SQS sent along, if it sent one.
func intact(m types.Message) bool {
	if m.MD5OfBody == nil {
		return true
	}
	sum := md5.Sum([]byte(aws.ToString(m.Body)))
	return hex.EncodeToString(sum[:]) == *m.MD5OfBody
}

func (q *Queue) delivery(m types.Message) job.Delivery {
	d := job.Delivery{
		MessageID:   aws.ToString(m.MessageId),
		Handle:      aws.ToString(m.ReceiptHandle),
		Body:        []byte(aws.ToString(m.Body)),
		Group:       m.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)],
		Traceparent: aws.ToString(m.MessageAttributes[traceparentAttribute].StringValue),
	}
	// AWS sends both where they are asked for; some emulators do not. A message
	// without them is new, and one that was sent in 1970 would have expired.
	d.Receives, _ = strconv.Atoi(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)])
	d.Receives = max(d.Receives, 1)
	if ms, err := strconv.ParseInt(m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64); err == nil {
		d.Sent = time.UnixMilli(ms).UTC()
	} else {
		d.Sent = time.Now().Add(q.Offset()).UTC()
	}
	d.Trail = readTrail(m.MessageAttributes[trailAttribute], d.Sent)
	return d
}

// readTrail reads the `sluice` attribute. Anybody who may send can write one,
// so it is believed only as far as it can be true: what is not readable is no
// trail, names that are no names are dropped, and so is a submission that lies
// after the message.
func readTrail(a types.MessageAttributeValue, sent time.Time) job.Trail {
	raw := []byte(aws.ToString(a.StringValue))
	var t job.Trail
	if json.Unmarshal(raw, &t) != nil {
		return job.Trail{}
	}
	if !job.ValidName(t.ID) {
		t.ID = ""
	}
	if !job.ValidName(t.Run) {
		t.Run = ""
	}
	if t.Submitted.After(sent) {
		t.Submitted = time.Time{}
	}
	t.Attempts = max(t.Attempts, 0)
	return t
}
