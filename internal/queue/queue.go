// Package queue is Sluice's SQS: receive, extend, release, renew, delete, bury
// and send, in batches of ten with an outcome for every entry, and the payload
// objects behind bodies that exceed a message. It decides nothing: when to
// receive, how long to hold and what to bury is the drain loop's business,
// which it serves through the interfaces that worker declares. It is called by
// the composition of the drainer and may import job and the AWS SDK, never
// another adapter and never worker.
package queue

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/sluicehq/sluice/job"
)

// callTimeout bounds one call to SQS with the SDK's own retries; a long poll
// has it beyond its wait. The SDK has no time-out of its own, so a connection
// that went silent would stop a keeper for ever. Too small, and a megabyte on a
// slow line or the SDK's second try is cut off, which for a receive hides up to
// ten messages for their whole visibility; too large, and a lease lapses while
// its extension hangs.
const callTimeout = 20 * time.Second

// Queue is one SQS queue. It is safe for concurrent use.
type Queue struct {
	client   *sqs.Client
	url      string
	name     string // the last part of url: what errors and logs call it
	payloads *Payloads
	log      *slog.Logger
	linger   time.Duration

	skew     atomic.Int64 // nanoseconds; see Offset
	maxBytes atomic.Int64 // largest message that the queue takes, attributes included

	mu   sync.Mutex
	next *sending // what Send fills; nil: nothing waits
}

// Options of a Queue. The zero value is usable.
type Options struct {
	// Payloads takes the bodies that with their attributes exceed a message. Nil
	// means that Send refuses those with job.ErrNoRoom.
	Payloads *Payloads
	// Linger is how long Send waits for others to share a call with, of ten
	// messages at most. Too small: a call for each. Too large: what is held until
	// it was sent is held longer.
	Linger time.Duration
	// Log is slog.Default where nil.
	Log *slog.Logger
}

// New returns the queue at url. The client keeps the SDK's default retries.
func New(client *sqs.Client, url string, o Options) *Queue {
	q := &Queue{
		client:   client,
		url:      url,
		name:     url[strings.LastIndexByte(url, '/')+1:],
		payloads: o.Payloads,
		log:      o.Log,
		linger:   o.Linger,
	}
	if q.log == nil {
		q.log = slog.Default()
	}
	q.maxBytes.Store(job.MaxBody)
	return q
}

// URL returns the queue's URL.
func (q *Queue) URL() string { return q.url }

// Offset is SQS's clock minus ours, as of the last answer; 0 before the first.
// It is as exact as the Date header: to a second.
func (q *Queue) Offset() time.Duration { return time.Duration(q.skew.Load()) }

// answered takes SQS's clock from an answer.
func (q *Queue) answered(m middleware.Metadata) {
	skew, ok := awsmiddleware.GetAttemptSkew(m)
	if !ok {
		return
	}
	// The Date has whole seconds, cut off: a clock within that second agrees.
	if -time.Second < skew && skew <= 0 {
		skew = 0
	}
	q.skew.Store(int64(skew))
}

// Attributes is what SQS tells about a queue. The counts are approximate.
type Attributes struct {
	Visible, Delayed, InFlight int
	Retention                  time.Duration
	FIFO                       bool
	MaxMessageBytes            int // body and attributes
}

// Describe asks SQS about the queue. From then on Send respects its
// MaxMessageBytes: queues from before August 2025 keep 256 KiB.
func (q *Queue) Describe(ctx context.Context) (Attributes, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &q.url,
		// Not by name: asking a standard queue for FifoQueue is an error to some
		// emulators.
		AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
	})
	if err != nil {
		return Attributes{}, q.wrap("describe", err)
	}
	q.answered(out.ResultMetadata)

	number := func(name types.QueueAttributeName) int {
		n, e := strconv.Atoi(out.Attributes[string(name)])
		if e != nil && err == nil {
			err = fmt.Errorf("describe %s: %s: %w", q.name, name, e)
		}
		return n
	}
	a := Attributes{
		Visible:         number(types.QueueAttributeNameApproximateNumberOfMessages),
		Delayed:         number(types.QueueAttributeNameApproximateNumberOfMessagesDelayed),
		InFlight:        number(types.QueueAttributeNameApproximateNumberOfMessagesNotVisible),
		Retention:       time.Duration(number(types.QueueAttributeNameMessageRetentionPeriod)) * time.Second,
		FIFO:            out.Attributes[string(types.QueueAttributeNameFifoQueue)] == "true",
		MaxMessageBytes: number(types.QueueAttributeNameMaximumMessageSize),
	}
	if err != nil {
		return Attributes{}, err
	}
	q.maxBytes.Store(int64(min(a.MaxMessageBytes, job.MaxBody)))
	return a, nil
}

// seconds rounds up to what SQS counts in: an extension may last longer than
// asked for, never shorter.
func seconds(d time.Duration) int32 {
	return int32((d + time.Second - 1) / time.Second)
}
