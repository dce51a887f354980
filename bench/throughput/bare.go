package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/sluicehq/sluice/internal/config"
	"github.com/sluicehq/sluice/job"
)

// How many calls to SQS the bare loop makes at once: as many as the drainer
// (worker's parallelReceives and keeperCalls).
const (
	receivers = 4
	deleters  = 8
)

// bare is what is left of a drainer when everything is taken away that makes it
// one: receive ten, HEAD, converse, put, delete ten, as often as it goes. It
// makes the same calls to the same SDK with as many at once, keeps no quota and
// no lease, and gives up at the first error.
type bare struct {
	cfg     config.Config
	modelID string
	sqs     *sqs.Client
	s3      *s3.Client
	bedrock *bedrockruntime.Client
	got     chan types.Message
	handles chan string // of messages whose result is stored
}

func bareLoop(ctx context.Context, ac aws.Config, cfg config.Config) error {
	ac.HTTPClient = plain{awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 2*cfg.MaxInFlight
	})}
	b := &bare{
		cfg: cfg, sqs: sqs.NewFromConfig(ac), bedrock: bedrockruntime.NewFromConfig(ac),
		s3:  s3.NewFromConfig(ac, func(o *s3.Options) { o.UsePathStyle = true }),
		got: make(chan types.Message), handles: make(chan string, cfg.MaxInFlight),
	}
	for _, m := range cfg.Models {
		b.modelID = m.Routes[0].ModelID
	}
	failed := make(chan error)
	loops := func(n int, loop func(context.Context) error) {
		for range n {
			go func() { failed <- loop(ctx) }()
		}
	}
	loops(receivers, b.receive)
	loops(cfg.MaxInFlight, b.work)
	loops(deleters, b.remove)
	return <-failed // the process ends with the first
}

// plain spares the bare loop what would stop it for the visibility timeout every
// few thousand jobs, and the drainer is spared: internal/drainer/connections.go tells.
type plain struct{ aws.HTTPClient }

func (c plain) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return c.HTTPClient.Do(r)
}

func (b *bare) receive(ctx context.Context) error {
	for {
		out, err := b.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: &b.cfg.QueueURLs[0], MaxNumberOfMessages: 10, WaitTimeSeconds: 20, VisibilityTimeout: 120,
			MessageSystemAttributeNames: []types.MessageSystemAttributeName{
				types.MessageSystemAttributeNameApproximateReceiveCount,
				types.MessageSystemAttributeNameSentTimestamp,
				types.MessageSystemAttributeNameMessageGroupId,
			},
			MessageAttributeNames: []string{"sluice", "traceparent"},
		})
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		for _, m := range out.Messages {
			b.got <- m
		}
	}
}

func (b *bare) work(ctx context.Context) error {
	for m := range b.got {
		j, err := job.Decode([]byte(*m.Body))
		if err != nil {
			return fmt.Errorf("decode: %w", err)
		}
		key := aws.String(b.cfg.Results.Prefix + j.Identity().Key())
		_, err = b.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.cfg.Results.Bucket, Key: key})
		if e, ok := errors.AsType[*awshttp.ResponseError](err); !ok || e.HTTPStatusCode() != http.StatusNotFound {
			return fmt.Errorf("head: not absent: %w", err)
		}
		x := &raw{request: j.Request}
		_, err = b.bedrock.Converse(ctx, &bedrockruntime.ConverseInput{ModelId: &b.modelID}, func(o *bedrockruntime.Options) {
			o.APIOptions = append(o.APIOptions, x.install)
		})
		if err != nil {
			return fmt.Errorf("converse: %w", err)
		}
		_, err = b.s3.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &b.cfg.Results.Bucket, Key: key, Body: bytes.NewReader(x.response),
			ContentType: aws.String("application/json"), IfNoneMatch: aws.String("*"),
		})
		if err != nil {
			return fmt.Errorf("put: %w", err)
		}
		b.handles <- *m.ReceiptHandle
	}
	return nil
}

// raw passes bodies through the SDK as they are, as the drainer does: what is
// compared is not who parses less JSON.
type raw struct{ request, response []byte }

func (x *raw) install(stack *middleware.Stack) error {
	serialize := middleware.SerializeMiddlewareFunc("RawRequest", func(
		ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler,
	) (out middleware.SerializeOutput, metadata middleware.Metadata, err error) {
		if in.Request, err = in.Request.(*smithyhttp.Request).SetStream(bytes.NewReader(x.request)); err != nil {
			return out, metadata, err
		}
		return next.HandleSerialize(ctx, in)
	})
	deserialize := middleware.DeserializeMiddlewareFunc("RawResponse", func(
		ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler,
	) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		if r, ok := out.RawResponse.(*smithyhttp.Response); ok && err == nil && r.StatusCode == http.StatusOK {
			x.response, err = io.ReadAll(r.Body)
			err = errors.Join(err, r.Body.Close())
			r.Body = io.NopCloser(bytes.NewReader([]byte("{}")))
		}
		return out, metadata, err
	})
	return errors.Join(
		stack.Serialize.Add(serialize, middleware.After),
		stack.Deserialize.Add(deserialize, middleware.After),
	)
}

// linger is how long a delete waits for nine others, as the drainer's does.
const linger = 2 * time.Second

func (b *bare) remove(ctx context.Context) error {
	for {
		entries := []types.DeleteMessageBatchRequestEntry{}
		add := func(handle string) {
			entries = append(entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(len(entries))), ReceiptHandle: &handle})
		}
		add(<-b.handles)
		for late := time.After(linger); len(entries) < 10 && late != nil; {
			select {
			case handle := <-b.handles:
				add(handle)
			case <-late:
				late = nil
			}
		}
		out, err := b.sqs.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &b.cfg.QueueURLs[0], Entries: entries})
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		if len(out.Failed) > 0 {
			return fmt.Errorf("delete: %s", aws.ToString(out.Failed[0].Code))
		}
	}
}
